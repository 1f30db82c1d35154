"""Small files and folders are made by the batch: more of them than one call or one set of handles holds, plain and special ones mixed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from blake3 import blake3

import torpor.wake.batch
import torpor.wake.fetcher
from tests.engine.lab import Lab, either_way, same, write
from torpor.errors import Damaged
from torpor.format import contents
from torpor.format.entries import Bundled, EntryBlock, decode, decoded


@pytest.fixture(params=["compiled", "by hand"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return either_way(request.param, tmp_path / "lab", monkeypatch)


def test_many_in_one_folder(lab: Lab, tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    for number in range(2 * torpor.wake.batch.MOST + 7):
        write(root / f"{number:05}", f"content {number}" if number % 9 else "")
    lab.take(root)
    lab.restore(tmp_path / "back")
    same(root, tmp_path / "back")


def test_a_file_in_each_of_many_folders(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torpor.wake.batch, "_HANDLES", 20)
    root = tmp_path / "workspace"
    for number in range(100):
        write(root / f"{number % 7}/{number}/inner/file", f"content {number}")
        (root / f"{number % 7}/{number}").chmod(0o700 | number % 64)
    lab.take(root)
    before = len(os.listdir("/proc/self/fd"))
    lab.restore(tmp_path / "back")
    assert len(os.listdir("/proc/self/fd")) == before
    same(root, tmp_path / "back")


def test_plain_and_special_ones_mixed(lab: Lab, tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    for number in range(90):
        path = write(root / f"{number // 30}" / f"{number}", f"content {number}" if number % 4 else "")
        path.chmod((0o644, 0o600, 0o1777, 0o400)[number % 4])
        if number % 5 == 0:
            os.setxattr(path, "user.number", b"%d" % number)
        if number % 7 == 0 and os.geteuid() == 0:
            os.chown(path, 1000 + number % 2, 2000)
        if number % 11 == 0:
            os.truncate(path, 200_000)
    if os.geteuid() == 0:
        os.chown(root / "1", 1000, 2000)
        os.setxattr(root / "2", "user.folder", b"yes")
    lab.take(root)
    lab.restore(tmp_path / "back")
    same(root, tmp_path / "back")


def test_what_comes_before_a_damaged_file_is_made(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "workspace"
    for number in range(20):
        write(root / f"{number:02}", f"content {number}")
    lab.take(root)

    def altered(data: memoryview, offsets: Sequence[int], lengths: Sequence[int], key: bytes) -> list[bytes]:
        pieces = [bytes(data[at : at + size]) for at, size in zip(offsets, lengths, strict=True)]
        return [blake3(b"altered" if piece == b"content 12" else piece, key=key).digest() for piece in pieces]

    with monkeypatch.context() as patch:
        patch.setattr(torpor.wake.fetcher, "hash_pieces", altered)
        with pytest.raises(Damaged):
            lab.restore(tmp_path / "back")
    found = sorted(name for name in os.listdir(tmp_path / "back") if not name.startswith("."))
    assert found == [f"{number:02}" for number in range(12)]
    lab.restore(tmp_path / "back")
    same(root, tmp_path / "back")


def test_contents_are_looked_up_and_not_changed() -> None:
    made = EntryBlock(0)
    for number in range(5):
        made.content[made.add(0, b"%d" % number, contents.FILE if number % 2 else contents.SYMLINK, 0o600, 0, 0, 0, 3)] = (
            Bundled(number, 9, bytes([number]) * 32) if number % 2 else b"target %d" % number
        )
    found = decode(0, 5, made.encode()).content
    assert [found[row] for row in range(-5, 5)] == [*made.content, *made.content]
    assert list(found) == made.content
    assert found != made.content[:-1]
    with pytest.raises(IndexError):
        found[5]
    with pytest.raises(TypeError):
        found[0] = None
    with pytest.raises(TypeError):
        decoded(made)
