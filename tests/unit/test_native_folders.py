"""Directories made and finished by compiled calls: all of a tree, or what can be of it, and nothing through a link."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.lab import Lab, same, write
from torpor.native import kernels
from torpor.native.kernels import SPECIAL

# a, a/b, a/b/c, a/d, e: names and parents.
NAMES, PARENTS = [b"a", b"b", b"c", b"d", b"e"], [-1, 0, 1, 0, -1]
PATHS = ["a", "a/b", "a/b/c", "a/d", "e"]
MINE = os.geteuid(), os.getegid()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def joined(names: list[bytes]) -> bytes:
    return b"".join(name + b"\0" for name in names)


def make(root: int, names: list[bytes] = NAMES, parents: list[int] = PARENTS) -> int:
    lib = kernels.library()
    assert lib is not None
    return kernels.make_folders(lib, root, joined(names), array("i", parents))


def finish(root: int, modes: list[int], names: list[bytes] = NAMES, parents: list[int] = PARENTS, uid: int = MINE[0]) -> list[int]:
    lib = kernels.library()
    assert lib is not None
    count = len(names)
    owners = array("I", [uid] * count), array("I", [MINE[1]] * count)
    times = array("q", [10**9 * number - 1 for number in range(count)])
    return list(kernels.finish_folders(lib, root, joined(names), (array("i", parents), array("I", modes), *owners, times), False))


def test_a_tree_is_made_and_finished(tmp_path: Path, root: int) -> None:
    assert make(root) == 5
    assert all((tmp_path / path).stat().st_mode & 0o7777 == 0o700 for path in PATHS)
    modes = [0o755, 0o2750, 0o1777, 0o500, 0o000]
    assert finish(root, modes) == [1] * 5
    for number, path in reversed([*enumerate(PATHS)]):
        status = (tmp_path / path).stat()
        assert (status.st_mode & 0o7777, status.st_mtime_ns) == (modes[number], 10**9 * number - 1)
    for path in PATHS:
        (tmp_path / path).chmod(0o700)


def test_none_at_all(root: int) -> None:
    assert make(root, [], []) == 0
    assert finish(root, [], [], []) == []


def test_it_stops_at_what_is_there(tmp_path: Path, root: int) -> None:
    write(tmp_path / "a" / "b", b"a file")
    (tmp_path / "a" / "b").rename(tmp_path / "b")
    (tmp_path / "a").rmdir()
    (tmp_path / "b").rename(tmp_path / "e")
    assert make(root) == 4
    assert (tmp_path / "e").read_bytes() == b"a file"
    assert make(root) == 0


def test_nothing_is_finished_through_a_link(tmp_path: Path, root: int) -> None:
    make(root)
    elsewhere = tmp_path / "a" / "d"
    (tmp_path / "a" / "b" / "c").rmdir()
    (tmp_path / "a" / "b").rmdir()
    (tmp_path / "a" / "b").symlink_to("d")
    (elsewhere / "c").mkdir(0o711)
    before = (elsewhere / "c").stat()
    assert finish(root, [0o755] * 5) == [0, 0, 0, 1, 1]
    after = (elsewhere / "c").stat()
    assert (before.st_mode, before.st_mtime_ns) == (after.st_mode, after.st_mtime_ns)


def test_what_is_left_out_stays_in_reach(tmp_path: Path, root: int) -> None:
    make(root)
    assert finish(root, [0o000, 0o000, SPECIAL, 0o755, 0o755]) == [0, 0, 0, 1, 1]
    assert (tmp_path / "a" / "b").stat().st_mode & 0o7777 == 0o700
    assert finish(root, [0o755] * 5, uid=MINE[0] + 1) == [0] * 5  # owners are not to be set


@pytest.mark.parametrize("depth", [255, 256, 257, 300])
def test_trees_deeper_than_handles(tmp_path: Path, root: int, depth: int) -> None:
    names, parents = [b"d"] * depth + [b"last"], [*range(-1, depth - 1), -1]
    made = make(root, names, parents)
    assert made == (depth + 1 if depth <= 257 else 257)
    handles = len(os.listdir("/proc/self/fd"))
    done = finish(root, [0o755] * (depth + 1), names, parents)
    assert sum(done) == (depth + 1 if depth <= 256 else max(0, made - depth))
    assert len(os.listdir("/proc/self/fd")) == handles


def test_an_engine_restores_what_is_too_deep_for_them(tmp_path: Path) -> None:
    source = tmp_path / "source"
    path = source
    for number in range(300):
        path = path / "d"
        if number % 97 == 0:
            write(path / "file", b"content %d" % number)
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o751)
    (source / "d" / "d").chmod(0o550)
    lab = Lab(tmp_path / "lab")
    lab.take(source)
    lab.restore(tmp_path / "back")
    same(source, tmp_path / "back")
