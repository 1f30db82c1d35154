"""Columns: length-prefixed arrays in a section, bounded and checked before use."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable
from itertools import accumulate, chain

from torpor.errors import Malformed

_LENGTH = struct.Struct("<I")
# array's type codes by width: 'I' and 'Q' are 4 and 8 bytes on every platform torpor runs on.
WIDTHS = {"B": 1, "H": 2, "I": 4, "Q": 8, "q": 8}


def pack(*columns: bytes | bytearray | array[int]) -> bytes:
    """Columns in order, each its length and its bytes."""
    parts: list[bytes] = []
    for column in columns:
        if isinstance(column, array) and sys.byteorder == "big":
            swapped = array(column.typecode, column)
            swapped.byteswap()
            data = swapped.tobytes()
        else:
            data = bytes(column)
        parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


class Reader:
    """Takes columns one by one from untrusted bytes; every disagreement is `Malformed`."""

    __slots__ = ("_at", "_data", "_what", "starts")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = memoryview(data)
        self._at = 0
        self._what = what
        self.starts: list[int] = []  # where the bytes of each column that was taken begin

    def fail(self, why: str) -> Malformed:
        return Malformed(f"{self._what}: {why}.", safe="Nothing of it was used.")

    def blob(self, length: int | None = None) -> memoryview:
        """The next column as bytes; of exactly `length` if given."""
        start = self._at + 4
        if start > len(self._data):
            raise self.fail("a column is missing")
        (size,) = _LENGTH.unpack_from(self._data, self._at)
        if size > len(self._data) - start or (length is not None and size != length):
            raise self.fail("a column has an impossible length")
        self._at = start + size
        self.starts.append(start)
        return self._data[start : start + size]

    def ints(self, typecode: str, count: int) -> array[int]:
        """The next column as `count` integers of `typecode` (B H I Q q)."""
        data = self.blob(count * WIDTHS[typecode])
        out: array[int] = array(typecode)
        out.frombytes(data)
        if sys.byteorder == "big":
            out.byteswap()
        return out

    def strings(self, count: int) -> list[bytes]:
        """Two columns, u16 lengths and their bytes, as `count` byte strings."""
        return self.cut(self.ints("H", count))

    def cut(self, lengths: Iterable[int]) -> list[bytes]:
        """The next column cut into pieces of the given lengths, which must fill it."""
        data = bytes(self.blob())
        ends = list(accumulate(lengths))
        if (ends[-1] if ends else 0) != len(data):
            raise self.fail("strings do not fill their column")
        return [data[start:end] for start, end in zip(chain((0,), ends), ends, strict=False)]

    def end(self) -> None:
        if self._at != len(self._data):
            raise self.fail("bytes are left over")


def join(strings: Iterable[bytes]) -> tuple[array[int], bytes]:
    """The two columns of `Reader.strings`."""
    items = list(strings)
    return array("H", map(len, items)), b"".join(items)
