"""Small files by the batch: those that need nothing special are made by one compiled call, the others one by one."""

from __future__ import annotations

import time

from torpor.format.entries import EntryBlock
from torpor.format.version import NONE
from torpor.native import kernels
from torpor.wake.files import Files, Kept
from torpor.wake.folders import Folders
from torpor.wake.metadata import Metadata
from torpor.workspace.record import RACY, RACY_NS

_MOST = 512  # files
_HANDLES = 256  # open directories


class Batch:
    """Files whose bytes lie in `data`, which must stay as it is until `flush`."""

    def __init__(self, data: memoryview, files: Files, metadata: Metadata, kept: Kept, folders: Folders) -> None:
        self._lib = kernels.library() if files.fresh and len(data) and not data.readonly else None
        self._base = kernels.address(data) if self._lib is not None else 0
        self._files = files
        self._metadata = metadata
        self._kept = kept
        self._folders = folders
        self._clear()

    def _clear(self) -> None:
        self._rows: list[tuple[EntryBlock, int, memoryview]] = []
        self._names: list[bytes] = []
        self._length = 0
        self._made = bytearray()
        self._folders.unpin()

    def add(self, block: EntryBlock, row: int, data: memoryview, offset: int) -> None:
        """A file of these bytes, which begin at `offset`."""
        mode = self._metadata.plain_mode(block, row) if self._lib is not None and data else None
        if mode is None or block.extents.get(row) is not None or block.parent[row] == NONE:
            self._files.small(self._folders, block, row, data)
            return
        self._folders.pinned = True
        folder = self._folders.fd(block.parent[row])
        name = block.names[row]
        self._made += kernels.MADE.pack(self._length, self._base + offset, len(data), block.mtime[row], mode, folder, 0, 0, 0)
        self._rows.append((block, row, data))
        self._names.append(name)
        self._length += len(name) + 1
        if len(self._rows) >= _MOST or self._folders.held >= _HANDLES:
            self.flush()

    def flush(self) -> None:
        """Make what is waiting."""
        if not self._rows or self._lib is None:
            return
        rows, made = self._rows, self._made
        done = kernels.write_small(self._lib, b"\0".join(self._names) + b"\0", made, len(rows))
        now = time.time_ns()
        kept = self._kept
        for (block, row, data), fine, (_, _, _, mtime, _, _, device, inode, ctime) in zip(
            rows, done, kernels.MADE.iter_unpack(made), strict=True
        ):
            if fine:
                kept.set(block.base + row, device, inode, ctime, RACY if abs(mtime - now) < 2 * RACY_NS else 0)
            else:
                self._files.small(self._folders, block, row, data)  # it says what is wrong
        self._clear()
