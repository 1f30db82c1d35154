"""Reading a file that others may be writing: is what was read one state of it?"""

from __future__ import annotations

import errno
import os
from array import array
from typing import TYPE_CHECKING

from torpor.format import entries
from torpor.hibernate.window import Window
from torpor.plan.cuts import EXTENTS_MAX, coarsen
from torpor.workspace import attributes, system
from torpor.workspace.record import RACY
from torpor.workspace.recorded import Recorded
from torpor.workspace.scan import Status, Statuses
from torpor.workspace.walk import open_regular

if TYPE_CHECKING:
    from torpor.hibernate.tools import Shared

TRIES = 3  # how often a file that changes while it is read is read again before it is reported as torn


def same(before: Status, after: Status) -> bool:
    """Whether nothing changed between two stats of one file."""
    return (
        before.st_size == after.st_size
        and before.st_mtime_ns == after.st_mtime_ns
        and before.st_ctime_ns == after.st_ctime_ns
        and before.st_ino == after.st_ino
    )


def data_extents(fd: int, status: Status) -> array[int] | None:
    """The data of a sparse file as a flat array (offset, length, …), from SEEK_DATA and SEEK_HOLE; None for a file without holes."""
    size = status.st_size
    if status.st_blocks * 512 >= size:
        return None
    out = array("Q")
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if start >= size:
            break
        out.extend((start, end - start))
        at = end
        if len(out) >= 4 * EXTENTS_MAX:
            out = coarsen(out)
    out = coarsen(out)
    return None if len(out) == 2 and out[0] == 0 and out[1] == size else out


def has_content(path: bytes, liar: str) -> bool:
    """Whether a file whose size is told as 0 has content all the same, on a file system of this type.

    What the kernel makes up has, and is better not read.
    """
    if liar in system.MADE_UP:
        return True
    try:
        fd = open_regular(path)
    except OSError:
        return False  # whoever reads it says why
    try:
        return os.read(fd, 1) != b""
    except OSError:
        return False
    finally:
        os.close(fd)


def unchanged(status: Status, old: Recorded, stable_inodes: bool) -> bool:
    """Whether a snapshot takes a file from the record without reading it, if the store still has its chunks."""
    block, stats, row = old.block, old.stats, old.row
    return (
        block.type[row] == entries.FILE
        and block.size[row] == status.st_size
        and block.mtime[row] == status.st_mtime_ns
        and stats.ctime[row] == status.st_ctime_ns
        and not stats.flags[row] & RACY
        and not block.flags[row] & entries.TORN
        and (not stable_inodes or (stats.inode[row] == status.st_ino and stats.device[row] == status.st_dev))
    )


def unchanged_run(found: Statuses, old: Recorded, stable_inodes: bool) -> bool:
    """Whether `unchanged` holds for a run of files, the first of which is `old`, and none of them is torn, sparse or has attributes."""
    block, stats, first = old.block, old.stats, old.row
    last = first + len(found)
    return (
        block.size[first:last] == found.column("st_size")
        and block.mtime[first:last] == found.column("st_mtime_ns")
        and stats.ctime[first:last] == found.column("st_ctime_ns")
        and not any(stats.flags[first:last])
        and not any(block.flags[first:last])
        and (
            not stable_inodes or (stats.inode[first:last] == found.column("st_ino") and stats.device[first:last] == found.column("st_dev"))
        )
    )


def take_attributes(shared: Shared, path: bytes, window: Window, row: int, fd: int) -> None:
    """Keep the extended attributes of an open file or directory in its row. Those that can't be read are a problem, not the file."""
    failed: list[OSError] = []
    pairs = attributes.read(fd, failed)
    if pairs:
        window.set_attributes(row, entries.encode_attributes(pairs))
    if failed:
        shared.report(path, "unreadable", f"its attributes: {failed[0].strerror}")
        window.again(row)
