"""Many buffers as one body, without joining them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer


class Body:
    """Views of bytes, one after the other, as a file that boto3 can send, and send again."""

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts = parts
        self._size = sum(len(part) for part in parts)
        self._at = self._index = self._offset = 0

    def __len__(self) -> int:
        return self._size

    def md5(self) -> bytes:
        digest = hashlib.md5(usedforsecurity=False)
        for part in self._parts:
            digest.update(part)
        return digest.digest()

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """As a file's; there is nothing beyond the end."""
        self._at = left = min(self._size, offset + (0, self._at, self._size)[whence])
        self._index = 0
        while self._index < len(self._parts) and left >= len(self._parts[self._index]):
            left -= len(self._parts[self._index])
            self._index += 1
        self._offset = left
        return self._at

    def read(self, size: int | None = -1) -> Buffer:
        """Up to `size` bytes, less only at the end. A view if they lie in one part."""
        wanted = self._size - self._at if size is None or size < 0 else min(size, self._size - self._at)
        first = self._next(wanted)
        if len(first) == wanted:
            return first
        whole = bytearray(first)
        while len(whole) < wanted:
            whole += self._next(wanted - len(whole))
        return whole

    def _next(self, size: int) -> memoryview:
        """The next bytes of the current part, up to `size`."""
        if not size:
            return memoryview(b"")
        part = self._parts[self._index]
        piece = part[self._offset : self._offset + size]
        self._at += len(piece)
        self._offset += len(piece)
        if self._offset == len(part):
            self._index += 1
            self._offset = 0
        return piece
