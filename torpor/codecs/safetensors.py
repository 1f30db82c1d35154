"""The header of a safetensors file: 8 bytes of length, JSON, then the tensors. Untrusted: what is false or too much is None."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import msgspec

from torpor.codecs.arrays import Arrays

HEADER_MAX = 100_000_000  # the safetensors library refuses longer ones
PARSE_MAX = 16 * 1024 * 1024  # longer ones would cost too much memory for a hint; the bytes themselves tell as well

_LENGTH = struct.Struct("<Q")
_WIDTHS = {"BF16": 2, "F16": 2, "F32": 4}


class _Tensor(msgspec.Struct):
    """One entry; `__metadata__`, which has no offsets, reads as one without."""

    dtype: str = ""
    data_offsets: tuple[int, int] | None = None


_decoder = msgspec.json.Decoder(dict[str, _Tensor])


def data_start(head: bytes | memoryview, size: int) -> int | None:
    """Where the tensors begin in a file of `size` bytes, from its first 9 or more; None if it is no safetensors file."""
    if len(head) < 9 or head[8] != ord("{"):
        return None
    (length,) = _LENGTH.unpack_from(head)
    return 8 + length if 2 <= length <= min(HEADER_MAX, size - 8) else None


def parse(head: bytes | memoryview, size: int) -> Arrays | None:
    """The tensors of a file of `size` bytes, from its first `data_start` or more bytes."""
    start = data_start(head, size)
    if start is None or start > len(head) or start > PARSE_MAX:
        return None
    try:
        tensors = _decoder.decode(memoryview(head)[8:start])
        found = Arrays(_rows(tensors.values(), start, size))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return found if len(found) else None


def _rows(tensors: Iterable[_Tensor], start: int, size: int) -> Iterator[tuple[int, int, int]]:
    for tensor in tensors:
        if tensor.data_offsets is not None:
            first, end = tensor.data_offsets
            if not 0 <= first <= end <= size - start:
                raise ValueError("a tensor lies outside the file")
            yield start + first, start + end, _WIDTHS.get(tensor.dtype, 0)
