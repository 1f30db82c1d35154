"""The check of an entry list, compiled: whole blocks at once. What it does not find fine is Python's to judge, from that block on."""

from __future__ import annotations

import struct

from torpor.format.chunks import ChunkList
from torpor.format.contents import FILES, Contents
from torpor.format.entries import EntryBlock
from torpor.format.tree import DEPTH_MAX, TreeCheck
from torpor.native import kernels

_ROOT = struct.Struct("<BH")


class CompiledCheck(TreeCheck):
    """As `TreeCheck`, with the same verdicts and errors."""

    def __init__(self, chunks: ChunkList, roots: list[tuple[bytes, bool]]) -> None:
        super().__init__(chunks, roots)
        self._lib = kernels.library() if all(len(name) <= 0xFFFF for name, _ in roots) and DEPTH_MAX <= kernels.LEVELS else None
        self._tree = bytearray(kernels.TREE.size + kernels.LEVELS * kernels.LEVEL.size if self._lib is not None else 0)
        self._names = b"".join(_ROOT.pack(folder, len(name)) + name for name, folder in roots) if self._lib is not None else b""

    def block(self, block: EntryBlock) -> None:
        contents = block.content
        if self._lib is None or not isinstance(contents, Contents) or block.base != self._next:
            self._by_hand()
            super().block(block)
            return
        depth = kernels.TREE.unpack_from(self._tree)[4]
        before = bytes(self._tree[: kernels.TREE.size + depth * kernels.LEVEL.size])
        known = len(self._files)
        self._files += contents.codes.translate(FILES)
        data, starts = contents.source
        chunks, names, files = self._chunks, self._names, self._files
        ints = chunks.raw.buffer_info()[0], chunks.pack.buffer_info()[0], len(chunks)
        at = kernels.constant(data), len(data), block.base, len(block), *ints
        section = kernels.SECTION.pack(*at, kernels.address(files) if files else 0, kernels.constant(names), len(names), *starts)
        if kernels.check_tree(self._lib, self._tree, section):
            self._next += len(block)
            self.files, self.directories, self.links, self.raw_bytes, _, self._root, _ = kernels.TREE.unpack_from(self._tree)
            return
        del self._files[known:]
        self._tree[: len(before)] = before
        self._by_hand()
        super().block(block)

    def _by_hand(self) -> None:
        """Go on in Python, from the state before this block."""
        if self._lib is None:
            return
        self._lib = None
        depth = kernels.TREE.unpack_from(self._tree)[4]
        end = kernels.TREE.size + depth * kernels.LEVEL.size
        for number, length, name in kernels.LEVEL.iter_unpack(self._tree[kernels.TREE.size : end]):
            self._stack.append([number, name[:length] if length else None])
        self._tree = bytearray()
