"""Ids to places, for millions of ids in flat memory: open addressing over plain arrays, about 90 bytes an id."""

from __future__ import annotations

from array import array


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
        slots, mask, ids = self._slots, self._mask, self._ids
        at = int.from_bytes(id[:8], "little") & mask
        while row := slots[at]:
            start = row * 32 - 32
            if ids[start : start + 32] == id:
                if self._length[row - 1] != length:
                    return None
                return self._place[row - 1], self._offset[row - 1]
            at = (at + 1) & mask
        return None

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

    def _grow(self) -> None:
        mask = self._mask * 4 + 3
        slots = array("I", bytes(4 * (mask + 1)))
        ids = memoryview(self._ids)
        for row in range(len(self._place)):
            at = int.from_bytes(ids[row * 32 : row * 32 + 8], "little") & mask
            while slots[at]:
                at = (at + 1) & mask
            slots[at] = row + 1
        ids.release()
        self._mask, self._slots = mask, slots
