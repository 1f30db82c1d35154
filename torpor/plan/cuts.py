"""Where a large file is cut, and which of its steps are holes."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from torpor.format.version import CHUNK_MAX, HOLE_MAX


def steps(size: int, first: int = 0) -> list[tuple[int, int]]:
    """(offset, length) of each step: 4 MiB each, after a first stretch of `first` bytes of its own (0: none).

    The first stretch is a safetensors header: behind it the steps start at the tensor data, so that a grown header shifts nothing.
    """
    out: list[tuple[int, int]] = []
    at = 0
    for end in (min(first, size), size):
        while at < end:
            length = min(CHUNK_MAX, end - at)
            out.append((at, length))
            at += length
    return out


def mark_holes(steps: Sequence[tuple[int, int]], extents: array[int]) -> list[tuple[int, int, bool]]:
    """(offset, length, is hole) of each step; neighbouring hole steps are joined up to 1 GiB.

    `extents` is the flat array (offset, length, …) of the file's data, ascending.
    """
    out: list[tuple[int, int, bool]] = []
    at = 0
    for offset, length in steps:
        while at < len(extents) and extents[at] + extents[at + 1] <= offset:
            at += 2
        hole = at >= len(extents) or extents[at] >= offset + length
        if hole and out and out[-1][2] and out[-1][1] + length <= HOLE_MAX:
            out[-1] = (out[-1][0], out[-1][1] + length, True)
        else:
            out.append((offset, length, hole))
    return out


def data_ranges(offset: int, length: int, extents: array[int] | None) -> list[tuple[int, int]]:
    """The parts (offset, length) of a stretch that are data; all of it if the file has no holes."""
    if extents is None:
        return [(offset, length)]
    out: list[tuple[int, int]] = []
    end = offset + length
    low, high = 0, len(extents) // 2
    while low < high:  # first extent that ends behind `offset`
        middle = (low + high) // 2
        if extents[2 * middle] + extents[2 * middle + 1] <= offset:
            low = middle + 1
        else:
            high = middle
    for i in range(low, len(extents) // 2):
        start, stop = extents[2 * i], extents[2 * i] + extents[2 * i + 1]
        if start >= end:
            break
        start, stop = max(start, offset), min(stop, end)
        out.append((start, stop - start))
    return out
