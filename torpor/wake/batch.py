"""Small files by the batch: those that need nothing special are made by one compiled call, the others one by one."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from ctypes import CDLL
from itertools import compress

from torpor.format.entries import EntryBlock
from torpor.format.version import NONE
from torpor.native import kernels
from torpor.wake.files import Files, Kept
from torpor.wake.folders import Folders
from torpor.wake.metadata import Metadata
from torpor.workspace.record import RACY_NS

MOST = 512  # files of one call
_HANDLES = 256  # open directories
_MARGIN = 2 * RACY_NS // 10**9  # seconds
_NOTHING = bytearray(1)


class Batch:
    """Makes small files, with one thread's directory handles."""

    def __init__(self, files: Files, metadata: Metadata, kept: Kept, folders: Folders) -> None:
        self._lib = kernels.library() if files.fresh else None
        self._files = files
        self._metadata = metadata
        self._kept = kept
        self._folders = folders

    def make(self, block: EntryBlock, rows: Sequence[int], data: memoryview, offsets: Sequence[int], sizes: Sequence[int]) -> None:
        """Files of a decoded block: each has `size` bytes of `data` at its offset. Raises for the first that can't be made."""
        lib = self._lib
        if lib is None or (len(data) and data.readonly):
            self._one_by_one(block, rows, data, offsets, sizes)
            return
        modes = self._metadata.plain_modes(block, rows)
        parents = [block.parent[row] for row in rows]
        if kernels.SPECIAL in modes or NONE in parents or block.extents:
            plain = [
                mode != kernels.SPECIAL and parent != NONE and row not in block.extents
                for mode, parent, row in zip(modes, parents, rows, strict=True)
            ]
            special = [not fine for fine in plain]
            self._one_by_one(block, *([*compress(rows, special)], data, [*compress(offsets, special)], [*compress(sizes, special)]))
            rows, offsets, sizes = [*compress(rows, plain)], [*compress(offsets, plain)], [*compress(sizes, plain)]
            modes, parents = [*compress(modes, plain)], [*compress(parents, plain)]
        folders = self._folders
        folders.pinned = True
        start = 0
        handles: dict[int, int] = {}
        column = array("i")
        for at, parent in enumerate(parents):
            handle = handles.get(parent)
            if handle is None or at - start >= MOST:
                if at > start and (folders.held >= _HANDLES or at - start >= MOST):
                    self._call(lib, block, rows[start:at], data, offsets[start:at], sizes[start:at], modes[start:at], column)
                    folders.unpin()
                    folders.pinned = True
                    start, column = at, array("i")
                    handles.clear()
                handle = handles[parent] = folders.fd(parent)
            column.append(handle)
        if rows:
            self._call(lib, block, rows[start:], data, offsets[start:], sizes[start:], modes[start:], column)
        folders.unpin()

    def empty(self, block: EntryBlock, rows: Sequence[int]) -> None:
        """Files without content."""
        none = [0] * len(rows)
        self.make(block, rows, memoryview(_NOTHING), none, none)

    def _one_by_one(self, block: EntryBlock, rows: Sequence[int], data: memoryview, offsets: Sequence[int], sizes: Sequence[int]) -> None:
        for row, offset, size in zip(rows, offsets, sizes, strict=True):
            self._files.small(self._folders, block, row, data[offset : offset + size])

    def _call(
        self, lib: CDLL, block: EntryBlock, rows: Sequence[int], data: memoryview, offsets: Sequence[int], sizes: Sequence[int],
        modes: Sequence[int], handles: array[int],
    ) -> None:  # fmt: skip
        names, mtime, base = block.names, block.mtime, block.base
        owners = [self._metadata.owner(block, row) for row in rows] if any(mode & kernels.SET_OWNER for mode in set(modes)) else []
        columns = (
            array("I", offsets), array("I", sizes), array("q", [mtime[row] for row in rows]), array("I", modes), handles,
            array("I", [base + row for row in rows]), array("I", [uid for uid, _ in owners]), array("I", [gid for _, gid in owners]),
        )  # fmt: skip
        joined = b"\0".join([names[row] for row in rows]) + b"\0"
        done = kernels.make_files(lib, joined, kernels.address(data), columns, self._kept.columns, _MARGIN)
        if done.count(1) < len(rows):
            failed = [not fine for fine in done]
            # They say what is wrong.
            self._one_by_one(block, *([*compress(rows, failed)], data, [*compress(offsets, failed)], [*compress(sizes, failed)]))
