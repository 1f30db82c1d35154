"""Where a large file is cut, and which of its steps are holes."""

from __future__ import annotations

from array import array

from torpor.format.version import CHUNK_MAX, HOLE_MAX

STEPS_MAX = 1 << 22  # of one file: 16 TiB of data, or 4 PiB of holes
EXTENTS_MAX = 1 << 20  # of one file: a section of the index has room for four times as many


class TooLong(Exception):
    """A file has more steps than one entry of a snapshot may have."""


class Steps:
    """The steps of a file, in order: where each begins, its length, and whether it is a hole. 13 bytes each."""

    __slots__ = ("holes", "lengths", "offsets")

    def __init__(self) -> None:
        self.offsets, self.lengths, self.holes = array("Q"), array("I"), bytearray()

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, number: int) -> tuple[int, int, bool]:
        return self.offsets[number], self.lengths[number], bool(self.holes[number])

    def add(self, offset: int, length: int, hole: bool) -> None:
        """The next one. Raises `TooLong`."""
        if len(self.offsets) >= STEPS_MAX:
            raise TooLong
        self.offsets.append(offset)
        self.lengths.append(length)
        self.holes.append(hole)


def cut(size: int, first: int = 0, extents: array[int] | None = None) -> Steps:
    """Steps of 4 MiB each, after a first stretch of `first` bytes of its own (0: none); where whole steps are holes, of up to 1 GiB.

    The first stretch is a safetensors header: behind it the steps start at the tensor data, so that a grown header shifts nothing.
    `extents` is the flat array (offset, length, …) of the file's data, ascending; None if all is data. Time and memory follow the data,
    not the size. Raises `TooLong`.
    """
    out = Steps()
    if size // HOLE_MAX > STEPS_MAX:
        raise TooLong
    at = extent = 0
    for end in (min(first, size), size):
        while at < end:
            length = min(CHUNK_MAX, end - at)
            data = at
            if extents is not None:
                while extent < len(extents) and extents[extent] + extents[extent + 1] <= at:
                    extent += 2
                data = extents[extent] if extent < len(extents) else size
            if data < at + length:
                out.add(at, length, False)
            else:
                length = min(end - at if data >= end else (data - at) // CHUNK_MAX * CHUNK_MAX, HOLE_MAX)
                out.add(at, length, True)
            at += length
    return out


def coarsen(extents: array[int], most: int | None = None) -> array[int]:
    """At most so many extents: neighbours are joined over the smallest holes between them, which then count as data."""
    most = EXTENTS_MAX if most is None else most
    gap = CHUNK_MAX >> 8
    while len(extents) // 2 > most:
        joined = array("Q")
        for at in range(0, len(extents), 2):
            start, length = extents[at], extents[at + 1]
            if joined and start - joined[-2] - joined[-1] <= gap:
                joined[-1] = start + length - joined[-2]
            else:
                joined.extend((start, length))
        extents = joined
        gap *= 2
    return extents


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
