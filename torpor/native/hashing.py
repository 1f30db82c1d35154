"""Keyed BLAKE3 of many pieces of one buffer: of short ones side by side in one compiled call, of long ones by the module `blake3`."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from blake3 import blake3

from torpor.native import kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHORT = 32 * 1024  # bytes; of longer pieces the module is as fast: measured, one piece fills the processor's lanes by itself


def hash_pieces(data: memoryview, offsets: Sequence[int], lengths: Sequence[int], key: bytes) -> list[bytes]:
    """The id of each piece, 32 bytes; of what lies beyond the end of `data`, that of what is there."""
    lib = kernels.library()
    if lib is not None and not data.readonly and len(offsets) > 1 and sum(lengths) < _SHORT * len(offsets):
        starts, sizes = array("I", offsets), array("I", lengths)
        if max(map(int.__add__, starts, sizes)) <= len(data):
            found = kernels.hash_many(lib, data, starts, sizes, key)
            if found is not None:
                return found
    return [blake3(data[at : at + size], key=key).digest() for at, size in zip(offsets, lengths, strict=True)]
