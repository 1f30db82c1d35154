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


class Pace:
    """A gate for `ceiling` threads at most, and now for `limit` of them.

    Growing: by half, window after window, as long as the bytes a second grow too; then back to the last number that paid, and
    another attempt after a rest. A window in which the gate held nobody back says nothing. When the store is busy: down by 0.7,
    once a window at most, and a rest. Never below 1.
    """

    def __init__(self, ceiling: int, now: Callable[[], float], start: int = START) -> None:
        self.limit = max(1, min(start, ceiling))
        self._ceiling = max(1, ceiling)
        self._now = now
        self._gate = threading.Condition()
        self._inside = 0
        self._began = now()
        self._bytes = 0
        self._full = False  # whether the gate was reached in this window
        self._cut = False
        self._base = 0.0  # bytes a second that the attempt to grow is measured by
        self._back = 0  # the number to go back to; 0: no attempt is under way
        self._rest = 0
        self._settling = False  # new connections start slowly: the window in which they were opened is not theirs to answer for

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a place, and have it for one request."""
        with self._gate:
            while self._inside >= self.limit:
                self._full = True
                self._gate.wait()
            self._inside += 1
            self._full = self._full or self._inside >= self.limit
        try:
            yield
        finally:
            with self._gate:
                self._inside -= 1
                self._turn_window()
                self._gate.notify(max(1, self.limit - self._inside))

    def moved(self, count: int) -> None:
        """So many bytes went over the network."""
        with self._gate:
            self._bytes += count

    def busy(self) -> None:
        """The store said that it has too much to do, or did not answer in time."""
        with self._gate:
            if not self._cut:
                self.limit = max(1, int((self._back or self.limit) * CUT))
                self._cut, self._back, self._rest, self._settling = True, 0, REST, False

    def _turn_window(self) -> None:
        now = self._now()
        if now - self._began < WINDOW:
            return
        speed, full, cut = self._bytes / (now - self._began), self._full, self._cut
        self._began, self._bytes, self._full, self._cut = now, 0, self._inside >= self.limit, False
        if not cut and full:
            self._judge(speed)

    def _judge(self, speed: float) -> None:
        """A window with the gate reached is over, and nothing in it was refused."""
        if self._settling:
            self._settling = False
        elif self._back and speed < self._base * GAIN:
            self.limit, self._back, self._rest = self._back, 0, REST
        elif self._rest:
            self._rest -= 1
        elif self.limit < self._ceiling:
            self._base, self._back, self._settling = speed, self.limit, True
            self.limit = min(self._ceiling, self.limit + max(1, self.limit // 2))
        else:
            self._back = 0
