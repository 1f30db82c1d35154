from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from torpor import errors
from torpor.storage import files
from torpor.storage.base import Missing, Refused


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, errors.NoSpace),
        (errno.EDQUOT, errors.NoSpace),
        (errno.EACCES, Refused),
        (errno.EPERM, Refused),
        (errno.EROFS, Refused),
        (errno.ENOTDIR, Refused),
        (errno.EIO, errors.StorageUnavailable),
        (errno.ESTALE, errors.StorageUnavailable),
        (errno.EMFILE, errors.StorageUnavailable),
        (errno.ENOENT, errors.StorageUnavailable),
        (None, errors.StorageUnavailable),
    ],
)
def test_errors_of_the_system_become_torpors(code: int | None, kind: type[errors.TorporError]) -> None:
    with pytest.raises(errors.TorporError) as caught, files.disk("write", "a/b", "file:///x"):
        raise OSError(code, "text") if code else OSError("no number")
    assert type(caught.value) is kind
    assert "a/b" in caught.value.what
    assert caught.value.remedy
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.retryable == (kind is errors.StorageUnavailable)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENOTDIR, errno.ELOOP])
def test_reading_what_is_not_there_is_missing(code: int) -> None:
    with pytest.raises(Missing, match=r"file:///x has no a/b\."), files.disk("read", "a/b", "file:///x"):
        raise OSError(code, "text")


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), files.disk("read", "a", "b"):
        raise KeyError("x")


def test_a_full_disk(tmp_path: Path) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(errors.NoSpace), files.disk("write", "a", "b"):
            files.write_all(fd, [memoryview(b"x")])
    finally:
        os.close(fd)


@pytest.mark.parametrize("most", [1, 7, 1000, 1 << 30])
def test_parts_are_written_in_order_however_little_the_system_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    parts = [os.urandom(1 + number % 5) for number in range(2500)]
    real = os.writev
    longest = 0

    def little(fd: int, buffers: list[memoryview]) -> int:
        nonlocal longest
        longest = max(longest, len(buffers))
        head, room = [], most
        for buffer in buffers:
            head.append(buffer[:room])
            room -= len(head[-1])
            if not room:
                break
        return real(fd, head)

    monkeypatch.setattr(os, "writev", little)
    fd = os.open(tmp_path / "x", os.O_WRONLY | os.O_CREAT)
    try:
        files.write_all(fd, [memoryview(part) for part in parts])
    finally:
        os.close(fd)
    assert (tmp_path / "x").read_bytes() == b"".join(parts)
    assert longest <= files.BUFFERS_MAX


@pytest.mark.parametrize("most", [1, 7, 1 << 30])
def test_ranges_are_read_whole_however_little_the_system_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    data = os.urandom(100)
    (tmp_path / "x").write_bytes(data)
    pread, preadv = os.pread, os.preadv
    monkeypatch.setattr(os, "pread", lambda fd, length, start: pread(fd, min(length, most), start))
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, start: preadv(fd, [buffers[0][:most]], start))
    fd = os.open(tmp_path / "x", os.O_RDONLY)
    try:
        assert files.read(fd, 3, 90, "x") == data[3:93]
        assert files.read(fd, 3, None, "x") == data[3:]
        out = bytearray(90)
        files.read_into(fd, 3, memoryview(out), "x")
        assert out == data[3:93]
    finally:
        os.close(fd)


def test_a_file_cut_off_while_it_is_read_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    pread, preadv = os.pread, os.preadv

    def cut(real: Any) -> Any:
        def reading(fd: int, what: Any, start: int) -> Any:
            got = real(fd, what, start)
            os.truncate(path, 0)
            return got if start else (got[:10] if isinstance(got, bytes) else min(got, 10))

        return reading

    monkeypatch.setattr(os, "pread", cut(pread))
    monkeypatch.setattr(os, "preadv", cut(preadv))
    for into in (False, True):
        path.write_bytes(bytes(100))
        fd = os.open(path, os.O_RDONLY)
        try:
            with pytest.raises(errors.Damaged, match="x has 10 bytes"):
                files.read_into(fd, 0, memoryview(bytearray(100)), "x") if into else files.read(fd, 0, 100, "x")
        finally:
            os.close(fd)


def test_make_folders(tmp_path: Path) -> None:
    files.make_folders(str(tmp_path / "a/b/c"))
    files.make_folders(str(tmp_path / "a/b/c"))
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        files.make_folders(str(tmp_path / "file/below"))


def test_folders_that_know_no_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = errno.EINVAL

    def refuse(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    files.sync_folder(0)
    code = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        files.sync_folder(0)


def test_sync_of_a_file_system(tmp_path: Path) -> None:
    fd = os.open(tmp_path, files.FOLDER)
    files.sync_file_system(fd)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        files.sync_file_system(fd)
