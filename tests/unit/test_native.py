"""The compiled kernels: the same bytes as without them, and hands off everything that is not plain."""

from __future__ import annotations

import os
import shutil
import time
from array import array
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.lab import Lab, same, write
from tools.hatch_build import compile_kernels
from torpor.codecs.base import Hint, Scratch
from torpor.codecs.table import by_id
from torpor.format.version import CODEC_PLANES
from torpor.native import kernels
from torpor.testing import nasty
from torpor.testing.samples import noise
from torpor.workspace.scan import Statuses, status_of


def lib() -> object:
    found = kernels.library()
    assert found is not None, "no compiled kernels; is there a compiler? ./dev setup"
    return found


def without(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kernels, "library", lambda: None)


def weights(count: int, width: int, seed: int) -> bytes:
    values = np.random.default_rng(seed).normal(0, 0.02, count).astype("<f4")
    return values.tobytes() if width == 4 else (values.view("<u4") >> 16).astype("<u2").tobytes()


@settings(deadline=None, max_examples=40)
@given(st.sampled_from([2, 4]), st.integers(0, 3), st.integers(1, 300_000), st.integers(0, 3), st.integers(0, 99))
def test_planes_are_the_same_with_and_without(width: int, lead: int, count: int, tail: int, seed: int) -> None:
    lib()
    data = noise(lead % width) + weights(count, width, seed) + noise(tail % width)
    codec, hint = by_id(CODEC_PLANES), Hint(width=width, lead=lead % width)
    one = codec.encode(data, Scratch(), hint)
    one = None if one is None else bytes(one)
    with pytest.MonkeyPatch.context() as patch:
        without(patch)
        two = codec.encode(data, Scratch(), hint)
        assert one == (None if two is None else bytes(two))
        out = bytearray(len(data))
        if one is not None:
            codec.decode(one, len(data), memoryview(out), Scratch())
            assert out == data
    if one is not None:
        again = bytearray(len(data))
        codec.decode(one, len(data), memoryview(again), Scratch())
        assert again == data


@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000])
def test_every_plane_of_every_length(width: int, count: int) -> None:
    found = kernels.library()
    assert found is not None
    for lead in range(width):  # elements need not be aligned
        raw = np.frombuffer(noise(lead + count * width) + b"\0", np.uint8).copy()
        words = np.frombuffer(raw, f"<u{width}", count, lead).astype(np.uint64)
        rotated = (words << 1 | words >> (8 * width - 1)) & ((1 << 8 * width) - 1)
        planes = [np.full(count + 1, 7, np.uint8) for _ in range(width)]
        for number, plane in enumerate(planes):
            kernels.split(found, raw.ctypes.data + lead, width, number, plane.ctypes.data, count)
            assert (plane[:count] == (rotated >> (8 * number) & 255).astype(np.uint8)).all()
            assert plane[count] == 7
        merged = np.full(len(raw), 9, np.uint8)
        kernels.merge(found, [plane.ctypes.data for plane in planes], merged.ctypes.data + lead, count)
        assert (merged[lead : lead + count * width] == raw[lead : lead + count * width]).all()
        assert (merged[:lead] == 9).all()
        assert merged[-1] == 9


def read(path: Path, status: os.stat_result, size: int | None = None) -> bytes | None:
    found = kernels.library()
    assert found is not None
    length = status.st_size if size is None else size
    buffer = bytearray(length + 2)
    seen = Statuses.of([status_of(status)._replace(st_size=length, st_blocks=(length + 511) // 512)]).data
    done, offsets, used = kernels.read_small(found, os.fsencode(path) + b"\0", seen, memoryview(buffer)[1:-1], 0, time.time_ns())
    assert (buffer[0], buffer[-1]) == (0, 0)
    assert (offsets[0], used) == (0, length if done[0] else 0)
    return bytes(buffer[1:-1]) if done[0] else None


def test_a_plain_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "file", b"content")
    assert read(path, path.stat()) == b"content"


def test_what_is_not_as_the_walk_saw_it_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "file", b"content")
    seen = path.stat()
    assert read(path, seen, 6) is None
    assert read(path, seen, 8) is None
    os.utime(path, ns=(0, seen.st_mtime_ns + 1))
    assert read(path, seen) is None
    os.utime(path, ns=(0, seen.st_mtime_ns))
    assert read(path, seen) is None  # the time of change tells
    other = write(tmp_path / "other", b"content")
    shutil.copystat(path, other)
    assert read(other, seen) is None
    path.unlink()
    assert read(path, seen) is None
    path.symlink_to("other")
    assert read(path, other.stat()) is None
    os.mkfifo(tmp_path / "fifo")
    assert read(tmp_path / "fifo", seen) is None
    assert read(tmp_path, tmp_path.stat(), 7) is None


def test_a_file_with_attributes_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "file", b"content")
    os.setxattr(path, "user.colour", b"blue")
    assert read(path, path.stat()) is None


OTHER = 4242


def make(folder: Path, name: bytes, data: bytes, mode: int = 0o640, mtime: int = 5) -> tuple[int, ...] | None:
    """Device, inode, ctime in ns, and whether the mtime is about now."""
    found = kernels.library()
    assert found is not None
    held = bytearray(b"?" + data)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    owner = array("I", [OTHER])
    columns = (
        array("I", [1]),
        array("I", [len(data)]),
        array("q", [mtime]),
        array("I", [mode]),
        array("i", [fd]),
        array("I", [1]),
        owner,
        owner,
    )
    stats = array("Q", [7, 7, 7]), array("Q", [7, 7, 7]), array("q", [7, 7, 7]), bytearray(b"\7\7\7")
    try:
        done = kernels.make_files(found, name + b"\0", kernels.address(held), columns, stats, 4)
    finally:
        os.close(fd)
    assert all(column[0] == column[2] == 7 for column in stats)
    return tuple(column[1] for column in stats) if done[0] else None


@pytest.mark.parametrize("mtime", [0, 1, 1_700_000_000_123_456_789, -1, -1_000_000_000, -1_500_000_001])
def test_a_file_is_made(tmp_path: Path, mtime: int) -> None:
    made = make(tmp_path, b"\xff name", b"content", 0o2777 | kernels.SET_MODE, mtime)
    assert made is not None
    path = os.fsencode(tmp_path) + b"/\xff name"
    status = os.stat(path)
    with open(path, "rb") as file:
        assert file.read() == b"content"
    assert status.st_mode & 0o7777 == 0o2777
    assert status.st_mtime_ns == mtime
    assert made == (status.st_dev, status.st_ino, status.st_ctime_ns, 0)


@pytest.mark.parametrize(("away", "racy"), [(0, 1), (2, 1), (-2, 1), (6, 0), (-60, 0)])
def test_a_file_whose_time_is_about_now_is_marked(tmp_path: Path, away: int, racy: int) -> None:
    made = make(tmp_path, b"file", b"content", mtime=time.time_ns() + away * 10**9)
    assert made is not None
    assert made[3] == racy


def test_an_owner_is_set_or_there_is_no_file(tmp_path: Path) -> None:
    made = make(tmp_path, b"file", b"content", 0o4755 | kernels.SET_MODE | kernels.SET_OWNER)
    if os.geteuid() != 0:
        assert made is None
        assert os.listdir(tmp_path) == []
        return
    status = (tmp_path / "file").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (OTHER, OTHER, 0o4755)


def test_an_empty_file_is_made(tmp_path: Path) -> None:
    assert make(tmp_path, b"file", b"") is not None
    assert (tmp_path / "file").read_bytes() == b""


def test_nothing_is_written_over_or_through(tmp_path: Path) -> None:
    path = write(tmp_path / "there", b"precious")
    assert make(tmp_path, b"there", b"content") is None
    assert path.read_bytes() == b"precious"
    (tmp_path / "link").symlink_to("elsewhere")
    assert make(tmp_path, b"link", b"content") is None
    assert not (tmp_path / "elsewhere").exists()


def test_what_could_not_be_finished_is_gone(tmp_path: Path) -> None:
    """A disk that is full: /dev/full's kind of trouble, here by the size that a file may have."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            import resource
            import signal

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
            code = 0 if make(tmp_path, b"file", bytes(1000)) is None else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert os.listdir(tmp_path) == []


def test_the_engine_does_the_same_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(tmp_path / "lab")
    root = tmp_path / "workspace"
    nasty.make(root)
    write(root / "weights.bin", weights(3_000_000, 2, 1))
    lib()
    first = lab.take(root).snapshot.manifest
    lab.restore(tmp_path / "with", setuid=True)
    same(root, tmp_path / "with")
    without(monkeypatch)
    lab.restore(tmp_path / "without", setuid=True)
    same(root, tmp_path / "without")
    other = Lab(tmp_path / "other")
    second = other.take(root).snapshot.manifest
    assert (first.files, first.raw_bytes) == (second.files, second.raw_bytes)
    other.restore(tmp_path / "again", setuid=True)
    same(root, tmp_path / "again")


def test_kernels_of_another_version_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "ABI", kernels.ABI + 1)
    assert kernels.library.__wrapped__() is None


def test_without_a_compiler_it_is_built_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compile_kernels(tmp_path) is None
    assert "slower" in capsys.readouterr().err
