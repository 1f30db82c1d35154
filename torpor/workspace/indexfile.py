"""An index object in a local file: opened section by section, checked as it streams, read again block by block."""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from torpor.errors import Malformed
from torpor.format import entries, index, meta
from torpor.format.chunks import ChunkList
from torpor.format.entries import EntryBlock
from torpor.workspace.treecheck import CompiledCheck

KEEP = 6  # decoded blocks kept for reading again
SMALL = 2  # an index of so many blocks is kept as it is checked


class IndexFile:
    """`fd` holds the whole object; its digest was checked by whoever made it. Closing is the owner's."""

    def __init__(self, fd: int, repository: str, writer: str, snapshot: str, key: bytes) -> None:
        self._fd = fd
        size = os.fstat(fd).st_size
        start = os.pread(fd, index.HEAD.size, 0)
        head = os.pread(fd, min(size, index.head_size(start, writer)), 0)
        self.head = index.parse_head(head, writer)
        if self.head.total != size:
            raise Malformed(f"Index {writer} has {size} bytes; its head says {self.head.total}.")
        self._sections = index.Sections(repository, writer, key)
        self.meta = meta.decode_meta(self._section(self.head.of_kind(index.META)[0]), snapshot)
        self.chunks = ChunkList()
        for number in self.head.of_kind(index.CHUNKS):
            self.chunks.extend(self.head.sections[number].rows, self._section(number), len(self.head.packs))
        self.chunks.check_places([pack.size for pack in self.head.packs])
        self._entry_sections = self.head.of_kind(index.ENTRIES)
        self._bases: list[int] = []
        at = 0
        for number in self._entry_sections:
            self._bases.append(at)
            at += self.head.sections[number].rows
        self.count = at
        self._cache: OrderedDict[int, EntryBlock] = OrderedDict()
        self._lock = threading.Lock()

    def _section(self, number: int) -> bytes:
        section = self.head.sections[number]
        return self._sections.open(number, section, os.pread(self._fd, section.sealed, section.offset))

    def problems(self) -> list[meta.Problem]:
        found = self.head.of_kind(index.PROBLEMS)
        if not found:
            return []
        problems = meta.decode_problems(self._section(found[0]))
        if len(problems) != self.head.sections[found[0]].rows:
            raise Malformed("The index's list of problems is not as long as its head says.")
        return problems

    def raw_blocks(self) -> Iterator[EntryBlock]:
        """Every block in order, unchecked beyond its own columns."""
        for base, rows, data in self.frames():
            yield entries.decode(base, rows, data)

    def frames(self) -> Iterator[tuple[int, int, bytes]]:
        """(number of the first entry, rows, bytes) of each entry section."""
        for base, number in zip(self._bases, self._entry_sections, strict=True):
            yield base, self.head.sections[number].rows, self._section(number)

    def checked_blocks(self) -> Iterator[EntryBlock]:
        """Every block in order; raises `Malformed` at the first row that breaks the format. Use before anything else."""
        check = CompiledCheck(self.chunks, [(root.name, root.kind == "directory") for root in self.meta.roots])
        for which, block in enumerate(self.raw_blocks()):
            check.block(block)
            if len(self._entry_sections) <= SMALL:
                with self._lock:
                    self._cache[which] = block
            yield block
        check.end()
        self.check = check

    def at(self, number: int) -> tuple[EntryBlock, int]:
        """The block that holds an entry, and its row there. Thread-safe."""
        which = bisect_right(self._bases, number) - 1
        with self._lock:
            block = self._cache.get(which)
            if block is not None:
                self._cache.move_to_end(which)
                return block, number - block.base
        section = self._entry_sections[which]
        data = self._section(section)
        block = entries.decode(self._bases[which], self.head.sections[section].rows, data)
        with self._lock:
            self._cache[which] = block
            while len(self._cache) > KEEP:
                self._cache.popitem(last=False)
        return block, number - block.base

    def grouped(self, numbers: Iterable[int]) -> Iterator[tuple[EntryBlock, list[int]]]:
        """Entries in the order given, as runs that lie in one block: it, and their rows there. Thread-safe."""
        block: EntryBlock | None = None
        rows: list[int] = []
        base = end = 0
        for number in numbers:
            if not base <= number < end:
                if block is not None:
                    yield block, rows
                block, _ = self.at(number)
                base, end, rows = block.base, block.base + len(block), []
            rows.append(number - base)
        if block is not None:
            yield block, rows
