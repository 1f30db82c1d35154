"""Blocks of entries whose content is still being settled, in order; a block leaves when its last row is settled."""

from __future__ import annotations

import threading
from array import array

from torpor.format import entries
from torpor.format.entries import Content, EntryBlock
from torpor.workspace.record import RACY, Stats
from torpor.workspace.scan import Stat, Status


class Window:
    """One block under way. Rows are added by the walking thread and settled by any."""

    __slots__ = ("_lock", "block", "closed", "linked", "pending", "stats")

    def __init__(self, base: int, lock: threading.Lock) -> None:
        self.block = EntryBlock(base)
        self.stats = Stats.empty()
        self.linked: dict[int, bytes] = {}  # paths of hard links, by row
        self.pending = 0
        self.closed = False
        self._lock = lock

    def add(self, parent: int, name: bytes, kind: int, status: Stat, racy: bool, size: int = 0) -> int:
        row = self.block.add(parent, name, kind, status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns, size)
        self.stats.add(status, racy)
        return row

    def add_files(self, parent: int, names: list[bytes], found: list[Status], contents: list[Content] | None = None) -> int:
        """Rows of files that are still to be read, or that hold this; the number of the first."""
        device, inode, size, _, _, mtime, ctime, mode, uid, gid, _ = zip(*found, strict=True)
        stats = self.stats
        stats.device.extend(device)
        stats.inode.extend(inode)
        stats.ctime.extend(ctime)
        stats.flags.extend([RACY if contents is None else 0] * len(found))
        first = self.block.extend(parent, names, entries.FILE, ([bits & 0o7777 for bits in mode], uid, gid, mtime, size))
        if contents is not None:
            self.block.content[first:] = contents
        return first

    def expect(self, rows: int = 1) -> None:
        """So many more rows will be settled later, or are already."""
        with self._lock:
            self.pending += rows

    def update(self, row: int, status: Stat, racy: bool, size: int | None = None) -> None:
        """Take the stat that belongs to the bytes read. `size` is how many were."""
        block = self.block
        block.mode[row] = status.st_mode & 0o7777
        block.uid[row], block.gid[row] = status.st_uid, status.st_gid
        block.mtime[row] = status.st_mtime_ns
        block.size[row] = status.st_size if size is None else size
        self.stats.replace(row, status, racy)

    def calm(self, row: int) -> None:
        """What the walk saw is what was read, and a later change will show."""
        self.stats.flags[row] = 0

    def flag(self, row: int, flag: int) -> None:
        self.block.flags[row] |= flag

    def set_extents(self, row: int, extents: array[int]) -> None:
        self.block.extents[row] = extents
        self.block.flags[row] |= entries.SPARSE

    def set_attributes(self, row: int, data: bytes) -> None:
        self.block.attributes[row] = data
        self.block.flags[row] |= entries.ATTRIBUTES

    def settle(self, row: int, content: Content) -> None:
        self.block.content[row] = content
        self.settled(1)

    def settled(self, rows: int) -> None:
        """So many rows have their content."""
        with self._lock:
            self.pending -= rows

    def drop(self, row: int) -> None:
        """The file is gone or can't be read: its row becomes an absent entry."""
        block = self.block
        block.type[row] = entries.ABSENT
        block.size[row] = 0
        block.flags[row] = 0
        block.extents.pop(row, None)
        block.attributes.pop(row, None)
        self.settle(row, None)
