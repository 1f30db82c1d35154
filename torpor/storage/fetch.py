"""One read of a range, through as many answers as it takes: what of it is there, what to ask for next, what an answer promises. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.errors import Damaged
from torpor.storage.answers import content_range
from torpor.storage.base import check_range
from torpor.storage.retry import Again

if TYPE_CHECKING:
    from collections.abc import Mapping


class Fetch:
    """`length` bytes (None: to the end) from `start` of an object, into `out` or into memory of its own once it is known to be there.

    For each answer: `headers` are to be sent; `begin` is told what came and says how many bytes of the body to pass over; then the
    rest of the body belongs at `space`, and `add` says how much of it was filled. `done` once all is there.
    """

    def __init__(self, name: str, start: int, length: int | None, out: memoryview | None = None) -> None:
        check_range(name, start, start, 0 if length is None else min(length, 0))  # a range at all?
        self._name = name
        self._start = start
        self._length = length
        self._filled = 0
        self.out = out
        self.done = False

    @property
    def space(self) -> memoryview:
        return memoryview(b"") if self.out is None else self.out[self._filled :]

    def add(self, count: int) -> None:
        self._filled += count
        self.done = self.out is not None and self._filled == len(self.out)

    @property
    def _first(self) -> int:
        """The first byte to ask for: the one before, where it could be that no byte is wanted, since an empty range has no answer."""
        at = self._start + self._filled
        return max(0, at - 1) if not self._length and not self._filled else at

    def headers(self) -> dict[str, str]:
        """None for the whole object, which may be empty."""
        if self._length is None and self._first == 0:
            return {}
        last = "" if self._length is None else max(self._first, self._start + self._length - 1)
        return {"Range": f"bytes={self._first}-{last}"}

    def begin(self, status: int, headers: Mapping[str, str], left: int | None) -> int:
        """`status`: 200, 206 or 416. `left`: the length of the answer's body. `Damaged` if the object is too short, `Again` if the answer
        makes no sense. (`rclone serve s3` says 200 where it means 206.)
        """
        span = content_range(headers.get("Content-Range", ""))
        if status == 416:
            if self._start or self._length:
                size = span.total if span and span.total is not None else None
                raise self._too_short(size)
            self.done = True  # no bytes of an empty object
            return 0
        if status == 200 and span is None:
            first, total = 0, left
        elif span is None or span.first != self._first or left not in (None, span.last + 1 - span.first):
            raise Again("the store answered another range than was asked for")
        else:
            first, total = span.first, span.total
        if total is None:
            if self._length is None:
                raise Again("the store did not tell the size of the object")
        else:
            check_range(self._name, total, self._start, self._length)
        if self.out is None:  # not sooner: what was asked for may be larger than any object
            self.out = memoryview(bytearray((total or 0) - self._start if self._length is None else self._length))
        self.add(0)
        return self._start + self._filled - first

    def _too_short(self, size: int | None) -> Damaged:
        if size is not None and size < self._start + (self._length or 1):
            check_range(self._name, size, self._start, self._length or 1)
        return Damaged(
            f"Object {self._name} ends before byte {self._start}, from which on bytes were asked for.",
            remedy="Verify the snapshots that use it, and wake from another one or from a copy.",
        )
