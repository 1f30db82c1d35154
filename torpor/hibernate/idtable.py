"""Ids to places, for millions of ids in flat memory: open addressing over plain arrays, about 90 bytes an id."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from torpor.native import kernels


class IdTable:
    """Maps a 32-byte id of `length` raw bytes to `(place, offset)`. Later entries of a known id are ignored."""

    __slots__ = ("_ids", "_length", "_mask", "_offset", "_place", "_slots")

    def __init__(self) -> None:
        self._mask = 1023
        self._slots = array("I", bytes(4 * 1024))
        self._ids = bytearray()
        self._place = array("I")
        self._offset = array("I")
        self._length = array("I")

    def __len__(self) -> int:
        return len(self._place)

    def get(self, id: bytes, length: int) -> tuple[int, int] | None:
        row = self._row(id)
        if not row or self._length[row - 1] != length:
            return None
        return self._place[row - 1], self._offset[row - 1]

    def _row(self, id: bytes) -> int:
        """The number of its row and 1, 0 if it has none."""
        slots, mask, ids = self._slots, self._mask, self._ids
        at = int.from_bytes(id[:8], "little") & mask
        while (row := slots[at]) and ids[row * 32 - 32 : row * 32] != id:
            at = (at + 1) & mask
        return row

    def add(self, id: bytes, length: int, place: int, offset: int) -> None:
        slots, mask, ids = self._slots, self._mask, self._ids
        at = int.from_bytes(id[:8], "little") & mask
        while row := slots[at]:
            if ids[row * 32 - 32 : row * 32] == id:
                return
            at = (at + 1) & mask
        self._ids += id
        self._place.append(place)
        self._offset.append(offset)
        self._length.append(length)
        slots[at] = len(self._place)
        if len(self._place) * 2 > mask:
            self._grow()

    def any_of(self, ids: list[bytes]) -> bool:
        """Whether one of them is here."""
        lib = kernels.library()
        if lib is None or not self._ids:
            return any(self._row(id) for id in ids)
        return kernels.ids_known(lib, self._slots, self._ids, b"".join(ids)) > 0

    def add_all(self, ids: list[bytes], lengths: Sequence[int], place: int, offsets: Sequence[int]) -> None:
        """As `add`, for files of one chunk."""
        lib = kernels.library()
        if lib is None:
            for id, length, offset in zip(ids, lengths, offsets, strict=True):
                self.add(id, length, place, offset)
            return
        first = len(self._place)
        self._ids += b"".join(ids)
        self._place.extend((place,) * len(ids))
        self._offset.extend(offsets)
        self._length.extend(lengths)
        while len(self._place) * 2 > self._mask:
            self._widen()
            first = 0
        kernels.ids_add(lib, self._slots, self._ids, first, len(self._place))

    def _widen(self) -> None:
        self._mask = self._mask * 4 + 3
        self._slots = array("I", bytes(4 * (self._mask + 1)))

    def _grow(self) -> None:
        self._widen()
        lib = kernels.library()
        if lib is not None:
            kernels.ids_add(lib, self._slots, self._ids, 0, len(self._place))
            return
        slots, mask = self._slots, self._mask
        ids = memoryview(self._ids)
        for row in range(len(self._place)):
            at = int.from_bytes(ids[row * 32 : row * 32 + 8], "little") & mask
            while slots[at]:
                at = (at + 1) & mask
            slots[at] = row + 1
        ids.release()
