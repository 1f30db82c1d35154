"""Keyed BLAKE3 of many pieces of one buffer: of short ones side by side in one compiled call, of long ones by the module `blake3`."""

from __future__ import annotations

from array import array
from functools import cache
from operator import add
from typing import TYPE_CHECKING

from blake3 import blake3

from torpor.native import kernels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ctypes import CDLL

_SHORT = 32 * 1024  # bytes; measured: of longer pieces one fills the processor's lanes by itself, and the module is faster


def hash_pieces(data: memoryview, offsets: Sequence[int], lengths: Sequence[int], key: bytes) -> list[bytes]:
    """The id of each piece, 32 bytes; of what lies beyond the end of `data`, that of what is there."""
    lib = kernels.library()
    short = len(offsets) > 1 and sum(lengths) < _SHORT * len(offsets)
    if lib is not None and short and _agree(lib) and data and not data.readonly and max(map(add, offsets, lengths)) <= len(data):
        found = kernels.hash_many(lib, data, array("I", offsets), array("I", lengths), key)
        if found is not None:
            return found
    return _one_by_one(data, offsets, lengths, key)


def _one_by_one(data: memoryview, offsets: Sequence[int], lengths: Sequence[int], key: bytes) -> list[bytes]:
    return [blake3(data[at : at + size], key=key).digest() for at, size in zip(offsets, lengths, strict=True)]


@cache
def _agree(lib: CDLL) -> bool:
    """Whether the kernels say what the module says: an id is the last word on somebody's bytes, and compilers err."""
    data, key = memoryview(bytearray(range(256)) * 40), bytes(range(32))
    offsets, lengths = array("I", range(0, 1000, 100)), array("I", (1, 63, 64, 65, 1023, 1024, 1025, 2048, 3073, 9216))
    found = kernels.hash_many(lib, data, offsets, lengths, key)
    return found == _one_by_one(data, offsets, lengths, key)
