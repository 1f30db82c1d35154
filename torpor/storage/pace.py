"""How many requests at once: more while that brings more bytes a second, fewer when the store has too much to do."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START = 8
WINDOW = 1.0  # seconds over which bytes are counted
GAIN = 1.05  # what more requests must bring, as a factor, to be kept
REST = 10  # windows between two attempts to grow
CUT = 0.7  # what is left after the store had too much to do
SHARE = 0.1  # of the requests of a window, that may be refused without that being too much: some stores refuse a few at any time


class Limit:
    """The number, and how it is found. Decides window by window; holds no lock and reads no clock.

    Growing: by half, window after window, as long as the bytes a second grow too; then back to the last number that paid, and another
    attempt after a rest. A window in which the number held nobody back says nothing. Where more than a tenth of a window's requests were
    refused for want of time: back too, or down by 0.7 if it was no attempt, and a rest. Never below 1, never above `ceiling`.
    """

    def __init__(self, ceiling: int, now: float, start: int = START) -> None:
        self.value = max(1, min(start, ceiling))
        self._ceiling = max(1, ceiling)
        self._base = 0.0  # bytes a second that the attempt to grow is measured by
        self._back = 0  # the number to go back to; 0: no attempt is under way
        self._rest = 0
        self._settling = False  # new connections start slowly: the window in which they were opened is not theirs to answer for
        self._open(now)

    def _open(self, now: float) -> None:
        self._began = now
        self._bytes = self._ended = self._refused = 0
        self._full = False

    def moved(self, count: int) -> None:
        self._bytes += count

    def ended(self) -> None:
        """A request was answered, or given up."""
        self._ended += 1

    def refused(self) -> None:
        """The store said that it has too much to do, or did not answer in time."""
        self._refused += 1

    def reached(self) -> None:
        """As many requests are under way as may be."""
        self._full = True

    def look(self, now: float) -> None:
        """Judge the window if it is over, and begin the next one."""
        if now - self._began < WINDOW:
            return
        if self._refused > SHARE * self._ended:
            self.value = self._back or max(1, int(self.value * CUT))
            self._back, self._rest, self._settling = 0, REST, False
        elif self._full:
            self._judge(self._bytes / (now - self._began))
        self._open(now)

    def _judge(self, speed: float) -> None:
        if self._settling:
            self._settling = False
        elif self._back and speed < self._base * GAIN:
            self.value, self._back, self._rest = self._back, 0, REST
        elif self._rest:
            self._rest -= 1
        elif self.value < self._ceiling:
            self._base, self._back, self._settling = speed, self.value, True
            self.value = min(self._ceiling, self.value + max(1, self.value // 2))
        else:
            self._back = 0


class Pace:
    """A gate that lets as many threads through as the limit says; the others wait."""

    def __init__(self, ceiling: int, now: Callable[[], float]) -> None:
        self._now = now
        self._gate = threading.Condition()
        self._limit = Limit(ceiling, now())
        self._inside = 0

    @property
    def limit(self) -> int:
        return self._limit.value

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a place, and have it for one request."""
        with self._gate:
            while self._inside >= self._limit.value:
                self._gate.wait()
            self._inside += 1
            self._note()
        try:
            yield
        finally:
            with self._gate:
                self._inside -= 1
                self._limit.ended()
                self._limit.look(self._now())
                self._note()
                self._gate.notify(max(1, self._limit.value - self._inside))

    def _note(self) -> None:
        if self._inside >= self._limit.value:
            self._limit.reached()

    def moved(self, count: int) -> None:
        """So many bytes went over the network."""
        with self._gate:
            self._limit.moved(count)

    def busy(self) -> None:
        """The store said that it has too much to do, or did not answer in time. To be called within the turn."""
        with self._gate:
            self._limit.refused()
