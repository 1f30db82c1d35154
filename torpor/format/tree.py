"""Checks an entry list as it streams by: tree order, names, references. What passes can't leave its root or loop."""

from __future__ import annotations

from array import array

from torpor.errors import Malformed
from torpor.format.chunks import ChunkList
from torpor.format.entries import (
    ATTRIBUTES,
    DIRECTORY,
    FILE,
    HARDLINK,
    SPARSE,
    SYMLINK,
    TORN,
    Bundled,
    Chunked,
    EntryBlock,
    decode_attributes,
)
from torpor.format.version import NONE, SIZE_MAX

KNOWN_FLAGS = TORN | SPARSE | ATTRIBUTES
NAME_MAX = 255
TARGET_MAX = 4095
DEPTH_MAX = 4096


class TreeCheck:
    """Feed blocks in order with `block`, then call `end`. Raises `Malformed` at the first false row.

    `chunks` is the whole chunk list; `roots` are (name, is directory) pairs from meta.
    """

    def __init__(self, chunks: ChunkList, roots: list[tuple[bytes, bool]]) -> None:
        self._chunks = chunks
        self._roots = roots
        self._root = 0
        self._next = 0
        # The open directories from the root down: entry number, last child's name.
        self._stack: list[list[object]] = []
        # Which entries are files a hard link may point to; one byte an entry.
        self._files = bytearray()
        self.files = self.directories = self.links = 0
        self.raw_bytes = 0

    def _fail(self, number: int, why: str) -> Malformed:
        return Malformed(f"Entry {number} of the index is refused: {why}.", safe="Nothing was written for it.")

    def block(self, block: EntryBlock) -> None:
        if block.base != self._next:
            raise self._fail(block.base, "sections are out of order")
        for row in range(len(block)):
            self._row(block, row, block.base + row)
        self._next += len(block)

    def _row(self, block: EntryBlock, row: int, number: int) -> None:
        name, kind, parent = block.names[row], block.type[row], block.parent[row]
        if not 0 < len(name) <= NAME_MAX or name in (b".", b"..") or b"/" in name or b"\0" in name:
            raise self._fail(number, "its name is not a file name")
        if parent == NONE:
            if self._root >= len(self._roots) or self._roots[self._root] != (name, kind == DIRECTORY) or kind > FILE:
                raise self._fail(number, "it is not a root that the snapshot names")
            self._root += 1
            self._stack.clear()
        else:
            stack = self._stack
            while stack and stack[-1][0] != parent:
                stack.pop()
            if not stack:
                raise self._fail(number, "its parent is not an open directory")
            top = stack[-1]
            if top[1] is not None and name <= top[1]:  # type: ignore[operator]
                raise self._fail(number, "names are not in order, or stand twice")
            top[1] = name
        if kind == DIRECTORY:
            if len(self._stack) >= DEPTH_MAX:
                raise self._fail(number, "it lies too deep")
            self._stack.append([number, None])
            self.directories += 1
        elif kind in (SYMLINK, HARDLINK):
            self.links += 1
        if kind != FILE and block.size[row]:
            raise self._fail(number, "only files have a size")
        if block.mode[row] & ~0o7777:
            raise self._fail(number, "its permissions are impossible")
        self._content(block, row, number, kind)
        self._files.append(kind == FILE)

    def _content(self, block: EntryBlock, row: int, number: int, kind: int) -> None:
        content = block.content[row]
        size = block.size[row]
        if kind == FILE:
            self.files += 1
            self.raw_bytes += size
            if self.raw_bytes > SIZE_MAX:
                raise self._fail(number, "its size is impossible")
            if content is None:
                ok = size == 0
            elif isinstance(content, Bundled):
                chunks, chunk = self._chunks, content.chunk
                ok = size > 0 and chunk < len(chunks) and not chunks.is_hole(chunk) and content.offset + size <= chunks.raw[chunk]
            else:
                ok = isinstance(content, Chunked) and size > 0 and self._total(content.refs) == size
            if not ok:
                raise self._fail(number, "its content does not fit its size")
            if block.flags[row] & SPARSE:
                self._extents(block.extents[row], size, number)
        elif kind == HARDLINK:
            if not (isinstance(content, int) and content < number and content < len(self._files) and self._files[content]):
                raise self._fail(number, "it links to what is not an earlier file")
        elif isinstance(content, bytes) and not (0 < len(content) <= TARGET_MAX and b"\0" not in content):
            raise self._fail(number, "its target is impossible")
        if block.flags[row] & ~KNOWN_FLAGS or (kind != FILE and block.flags[row] & (SPARSE | TORN)):
            raise self._fail(number, "its flags are impossible")
        if row in block.attributes:
            decode_attributes(block.attributes[row])

    def _total(self, refs: array[int]) -> int:
        raw, known = self._chunks.raw, len(self._chunks)
        total = 0
        for place in refs:
            if place >= known:
                return -1
            total += raw[place]
        return total

    def _extents(self, extents: array[int], size: int, number: int) -> None:
        end = -1
        for at in range(0, len(extents), 2):
            offset, length = extents[at], extents[at + 1]
            if offset <= end or length == 0 or offset + length > size:
                raise self._fail(number, "its extents are impossible")
            end = offset + length

    def end(self) -> int:
        """The number of entries, after every root was seen."""
        if self._root != len(self._roots):
            raise Malformed("The index does not hold every root that it names.")
        return self._next
