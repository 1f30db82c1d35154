"""Where arrays lie in a file, as its header says: a hint for the choice of a codec, never relied upon."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Element(NamedTuple):
    """Elements of `width` bytes (2 or 4: floats that `planes` takes; 0: anything else), the first one after `lead` bytes."""

    width: int
    lead: int


class Arrays:
    """Arrays of a file by place: (start, end, width of an element), bytes from the start of the file. 17 bytes of memory each."""

    __slots__ = ("_ends", "_starts", "_widths")

    def __init__(self, rows: Iterable[tuple[int, int, int]]) -> None:
        """Raises ValueError if arrays overlap. Empty ones are left out."""
        self._starts, self._ends, self._widths = array("Q"), array("Q"), array("B")
        last = 0
        for start, end, width in sorted(rows):
            if not last <= start <= end:
                raise ValueError("arrays overlap")
            if start < end:
                self._starts.append(start)
                self._ends.append(end)
                self._widths.append(width)
                last = end

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self._starts, self._ends, self._widths, strict=True)

    def dtype_at(self, offset: int, length: int) -> Element | None:
        """What most bytes of `offset … offset + length` are elements of; None if arrays cover less than half of it."""
        end = offset + length
        at = max(bisect_right(self._starts, offset) - 1, 0)
        votes: dict[Element, int] = {}
        covered = 0
        while at < len(self) and self._starts[at] < end:
            part = min(end, self._ends[at]) - max(offset, self._starts[at])
            if part > 0:
                width = self._widths[at]
                element = Element(width, (self._starts[at] - offset) % width if width else 0)
                votes[element] = votes.get(element, 0) + part
                covered += part
            at += 1
        if 2 * covered < length or not votes:
            return None
        return max(votes, key=lambda element: votes[element])
