"""Blocks of entries whose content is still being settled, in order; a block leaves when its last row is settled."""

from __future__ import annotations

import threading
from array import array
from itertools import compress

from torpor.format import entries
from torpor.format.entries import Bundled, Content, EntryBlock
from torpor.hibernate.links import Link
from torpor.native.kernels import SEEN
from torpor.workspace.record import RACY, Stats
from torpor.workspace.scan import Status, Statuses

_SIZELESS = bytes(kind != entries.FILE for kind in range(256))  # types whose rows have no size


class Window:
    """One block under way. Rows are added by the walking thread and settled by any.

    Until `finish` its stats lie in one piece, as the walk gives them; then they become columns, all rows at once.
    """

    __slots__ = ("_lock", "_racy", "_seen", "block", "closed", "firsts", "linked", "pending", "stats", "weight")

    def __init__(self, base: int, lock: threading.Lock) -> None:
        self.block = EntryBlock(base)
        self.firsts: dict[int, Status] = {}  # of files with several names, by row: as the walk saw them by the first
        self.linked: dict[int, Link] = {}  # the other names, by row
        self.pending = 0
        self.closed = False
        self.weight = 0  # about so many bytes of targets, attributes and extents by now
        self.stats: Stats
        self._seen = bytearray()
        self._racy = array("B")
        self._lock = lock

    def add(self, parent: int, name: bytes, kind: int, status: Status, racy: bool) -> int:
        self._seen += SEEN.pack(*status)
        self._racy.append(RACY if racy else 0)
        return self.block.add_rows(parent, [name], kind)

    def add_files(self, parent: int, names: list[bytes], found: Statuses, contents: list[Content] | None = None) -> int:
        """Rows of files that are still to be read, or that hold this; the number of the first."""
        self._seen += found.data
        self._racy.extend((RACY if contents is None else 0,) * len(names))
        first = self.block.add_rows(parent, names, entries.FILE)
        if contents is not None:
            self.block.content[first:] = contents
        return first

    def finish(self, mapped: frozenset[tuple[int, int]] = frozenset()) -> None:
        """Every row is there and settled. `mapped`: device and inode of files that can change and keep their times."""
        block, column = self.block, Statuses(self._seen).column
        block.mode = array("H", [bits & 0o7777 for bits in column("st_mode")])
        block.uid, block.gid = column("st_uid"), column("st_gid")
        block.mtime, block.size = column("st_mtime_ns"), column("st_size")
        for row in compress(range(len(block)), block.type.tobytes().translate(_SIZELESS)):
            block.size[row] = 0
        self.stats = Stats(column("st_dev"), column("st_ino"), column("st_ctime_ns"), self._racy)
        self._seen = bytearray()
        if mapped and not {inode for _, inode in mapped}.isdisjoint(self.stats.inode):
            for row, file in enumerate(zip(self.stats.device, self.stats.inode, strict=True)):
                if file in mapped:
                    self._racy[row] = RACY

    def expect(self, rows: int = 1) -> None:
        """So many more rows will be settled later, or are already."""
        with self._lock:
            self.pending += rows

    def update(self, row: int, status: Status, racy: bool, size: int | None = None) -> None:
        """Take the stat that belongs to the bytes read. `size` is how many were."""
        SEEN.pack_into(self._seen, row * SEEN.size, *(status if size is None else status._replace(st_size=size)))
        self._racy[row] = RACY if racy else 0

    def status(self, row: int) -> Status:
        """What is known of a row by now."""
        return Status(*SEEN.unpack_from(self._seen, row * SEEN.size))

    def unlink(self, row: int) -> None:
        """A link becomes a file of its own, which is still to be read."""
        self.block.type[row] = entries.FILE
        self.block.content[row] = None
        self.expect()

    def again(self, row: int) -> None:
        """The next snapshot is to read this one, changed or not."""
        self._racy[row] = RACY

    def racy(self, first: int, flags: bytes | bytearray) -> None:
        """Of rows that were read as the walk saw them: `RACY`, or 0 where a later change will show in the times."""
        self._racy[first : first + len(flags)] = array("B", flags)

    def bundled(self, first: int, contents: list[Bundled]) -> None:
        """The content of rows from `first` on."""
        self.block.content[first : first + len(contents)] = contents
        self.settled(len(contents))

    def flag(self, row: int, flag: int) -> None:
        self.block.flags[row] |= flag

    def set_extents(self, row: int, extents: array[int]) -> None:
        self.block.extents[row] = extents
        self.weight += 8 * len(extents)
        self.block.flags[row] |= entries.SPARSE

    def set_attributes(self, row: int, data: bytes) -> None:
        self.block.attributes[row] = data
        self.weight += len(data)
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
        block.flags[row] = 0
        block.extents.pop(row, None)
        block.attributes.pop(row, None)
        self.settle(row, None)
