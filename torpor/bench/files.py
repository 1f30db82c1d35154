"""What the folder allows: writing and reading one file, walking and reading a workspace, a plain copy of it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from torpor.bench.rows import Row
from torpor.bench.timing import best
from torpor.format.version import CHUNK_MAX
from torpor.jobs import Scope
from torpor.workspace.walk import walk


def disk(folder: Path, size: int, copy: float) -> Iterator[Row]:
    """Rows of one file of `size` bytes, written and read in pieces of a chunk. `copy`: GB/s of a memory copy."""
    path = folder / "disk"
    piece = os.urandom(CHUNK_MAX)
    count = max(1, size // CHUNK_MAX)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        began = time.perf_counter()
        for number in range(count):
            os.pwrite(fd, piece, number * CHUNK_MAX)
        os.fsync(fd)
        write = count * CHUNK_MAX / (time.perf_counter() - began) / 1e9
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        buffer = bytearray(CHUNK_MAX)
        began = time.perf_counter()
        for number in range(count):
            os.preadv(fd, [buffer], number * CHUNK_MAX)
        read = count * CHUNK_MAX / (time.perf_counter() - began) / 1e9
    finally:
        os.close(fd)
        path.unlink()
    limit = "memory copy"
    yield Row(
        group="files", name="disk write", value=write, unit="GB/s", limit=copy, limit_name=limit, note="one file by one thread, and fsync"
    )
    yield Row(
        group="files", name="disk read", value=read, unit="GB/s", limit=copy, limit_name=limit,
        note="the same; the system was asked to forget it",
    )  # fmt: skip


def bare_walk(folder: Path) -> int:
    """Entries of a tree, with a stat of each and nothing else: the limit of a walk."""
    count, todo = 1, [os.fspath(folder)]
    while todo:
        with os.scandir(todo.pop()) as found:
            for entry in found:
                entry.stat(follow_symlinks=False)
                count += 1
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
    return count


def tree(workspace: Path, copy: float) -> Iterator[Row]:
    """Rows of walking a workspace and of reading it."""
    scope = Scope(roots=[os.fsencode(workspace)])
    entries = bare_walk(workspace)
    bare = entries / best(lambda: bare_walk(workspace))
    ours = entries / best(lambda: sum(1 for _ in walk(scope, lambda *_: None)))
    yield Row(
        group="files", name="walk", value=ours, unit="files/s", limit=bare, limit_name="scandir and stat", note=f"{entries:,} entries"
    )
    size = 0
    buffer = bytearray(CHUNK_MAX)
    began = time.perf_counter()
    for folder, _, names in os.walk(workspace):
        for name in names:
            size += _read(os.path.join(folder, name), buffer)
    speed = size / (time.perf_counter() - began) / 1e9
    yield Row(
        group="files", name="read the workspace", value=speed, unit="GB/s", limit=copy, limit_name="memory copy", note="one thread, cached"
    )


def _read(path: str, buffer: bytearray) -> int:
    """Bytes read of one file; links are not followed."""
    if os.path.islink(path):
        return 0
    size = 0
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while got := os.readv(fd, [buffer]):
            size += got
    finally:
        os.close(fd)
    return size


def plain_copy(workspace: Path, target: Path) -> float:
    """Seconds of a copy as `cp -a` makes it: one thread, nothing compressed, nothing encrypted. The copy is removed."""
    began = time.perf_counter()
    shutil.copytree(workspace, target, symlinks=True)
    seconds = time.perf_counter() - began
    shutil.rmtree(target)
    return seconds
