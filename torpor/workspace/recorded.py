"""Reads a stat record beside another list of entries in the same order: a merge join by path, in flat memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from torpor.format import entries
from torpor.format.chunks import ChunkList
from torpor.format.entries import EntryBlock
from torpor.format.index import Pack
from torpor.format.version import NONE
from torpor.workspace.record import RACY, Record, Stats

_FILE = bytes((entries.FILE,))


class Recorded(NamedTuple):
    """One row of the record. `key` orders entries over all roots as `walk` does."""

    key: bytes
    block: EntryBlock
    stats: Stats
    row: int


class Keys:
    """Keys of entries that stream by in tree order."""

    def __init__(self) -> None:
        self._root = -1
        self._path: list[tuple[int, bytes]] = []

    def key(self, block: EntryBlock, row: int, number: int) -> bytes:
        parent, path = block.parent[row], self._path
        if parent == NONE:
            self._root += 1
            key = b"%08d" % self._root
            path.clear()
        else:
            while path and path[-1][0] != parent:
                path.pop()
            key = path[-1][1] + b"\0" + block.names[row]
        if block.type[row] == entries.DIRECTORY:
            path.append((number, key))
        return key


def recorded(record: Record) -> Iterator[Recorded]:
    """The record's rows with their keys."""
    keys = Keys()
    for block, stats in record.blocks():
        for row in range(len(block)):
            yield Recorded(keys.key(block, row, block.base + row), block, stats, row)


class Cursor:
    """Moves through a record beside a walk, by entry or by run of files."""

    def __init__(self, record: Record) -> None:
        self._blocks = record.blocks()
        self._keys = Keys()
        self._block: EntryBlock | None = None
        self._stats: Stats | None = None
        self._row = self._end = 0
        self._key = b""
        self._step()

    @property
    def ended(self) -> bool:
        return self._block is None

    def _step(self, rows: int = 1) -> None:
        self._row += rows
        while self._block is None or self._row >= self._end:
            found = next(self._blocks, None)
            if found is None:
                self._block = None
                return
            self._block, self._stats = found
            self._row, self._end = 0, len(self._block)
        self._key = self._keys.key(self._block, self._row, self._block.base + self._row)

    def match(self, key: bytes) -> Recorded | None:
        """Move to this key; its row, if the record has one."""
        while self._block is not None and self._key < key:
            self._step()
        if self._block is None or self._stats is None or self._key != key:
            return None
        return Recorded(key, self._block, self._stats, self._row)

    def match_run(self, folder: bytes, names: list[bytes]) -> Recorded | None:
        """Move to the first of these names in the folder of this key: its row, if the record has all of them, files, one behind the other.

        `pass_by` moves on behind them.
        """
        first = self.match(folder + b"\0" + names[0])
        if first is None:
            return None
        block, row, last = first.block, first.row, first.row + len(names)
        parent = array("I", [block.parent[row]]) * len(names)
        if block.names[row:last] != names or block.parent[row:last] != parent:
            return None
        return first if block.type[row:last].tobytes() == _FILE * len(names) else None

    def pass_by(self, rows: int) -> None:
        """Leave so many files behind, from the one that was matched on."""
        self._step(rows)


class Known:
    """Finds, for entries of a snapshot in tree order, the record's entry at the same path."""

    def __init__(self, record: Record) -> None:
        self._chunks = record.chunks
        self._trusted = record.trusted
        self._packs = record.footer.packs
        self._rows = recorded(record)
        self._next: Recorded | None = next(self._rows, None)
        self._keys = Keys()

    def match(self, block: EntryBlock, row: int, number: int) -> Recorded | None:
        key = self._keys.key(block, row, number)
        while self._next is not None and self._next.key < key:
            self._next = next(self._rows, None)
        return self._next if self._next is not None and self._next.key == key else None

    def same_content(self, block: EntryBlock, row: int, old: Recorded, chunks: ChunkList) -> bool:
        """Whether the record's bytes for this path are the snapshot's: by ids of both."""
        there = old.block
        if (
            block.type[row] != entries.FILE
            or there.type[old.row] != entries.FILE
            or block.size[row] != there.size[old.row]
            or old.stats.flags[old.row] & RACY
            or there.flags[old.row] & entries.TORN
        ):
            return False
        new_content, old_content = block.content[row], there.content[old.row]
        if isinstance(new_content, entries.Bundled) and isinstance(old_content, entries.Bundled):
            return new_content.id == old_content.id
        if isinstance(new_content, entries.Chunked) and isinstance(old_content, entries.Chunked):
            if len(new_content.refs) != len(old_content.refs):
                return False
            return all(
                chunks.raw[a] == self._chunks.raw[b] and chunks.id(a) == self._chunks.id(b)
                for a, b in zip(new_content.refs, old_content.refs, strict=True)
            )
        return new_content is None and old_content is None

    def trusts(self, block: EntryBlock, row: int, old: Recorded, chunks: ChunkList, packs: list[Pack]) -> bool:
        """Whether this rental has checked the very chunks that the snapshot names for this path. Call it after `same_content`."""
        new_content, old_content = block.content[row], old.block.content[old.row]
        pairs: list[tuple[int, int]] = []
        if isinstance(new_content, entries.Bundled) and isinstance(old_content, entries.Bundled):
            pairs = [(new_content.chunk, old_content.chunk)]
        elif isinstance(new_content, entries.Chunked) and isinstance(old_content, entries.Chunked):
            pairs = list(zip(new_content.refs, old_content.refs, strict=True))
        return all(self._same_chunk(a, b, chunks, packs) for a, b in pairs)

    def _same_chunk(self, new: int, old: int, chunks: ChunkList, packs: list[Pack]) -> bool:
        if chunks.is_hole(new):
            return self._chunks.is_hole(old)
        return (
            not self._chunks.is_hole(old)
            and bool(self._trusted[old])
            and packs[chunks.pack[new]].name == self._packs[self._chunks.pack[old]].name
            and chunks.number[new] == self._chunks.number[old]
        )
