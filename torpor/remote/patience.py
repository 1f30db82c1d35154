"""How long, and how often, a host that can't be reached is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable

from torpor.clock import Clock
from torpor.errors import TorporError

_FIRST, _LONGEST = 0.5, 30.0  # seconds between tries; doubled from one to the next
_HELD = 60.0  # seconds; a connection that held so long was one, whatever was said


class Patience:
    """Counts from when a connection broke until the host says something new, at most `seconds()`: one that breaks again and again
    before that is none.

    `pause` waits; what it is given is spread by a half, so that many machines which lost one network do not come back at once.
    """

    def __init__(self, seconds: Callable[[], float], clock: Clock, pause: Callable[[float], None]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._pause = pause
        self._since: float | None = None
        self._began: float | None = None
        self._tries = 0

    def connected(self) -> None:
        self._began = self._clock.now()

    def heard(self) -> None:
        """The host said something new: what comes next begins with short waits again."""
        self._tries = 0
        self._since = None

    @property
    def is_first(self) -> bool:
        """Whether no try has failed since something was heard."""
        return self._tries == 0

    def lost(self, error: TorporError) -> None:
        """Wait a while before the next try. Raises `error` if that was enough."""
        now = self._clock.now()
        if self._began is not None and now - self._began > _HELD:
            self.heard()
        self._began = None
        self._since = now if self._since is None else self._since
        if now - self._since >= self._seconds():
            raise error
        delay = min(_LONGEST, _FIRST * 2.0 ** min(self._tries, 10))
        self._tries += 1
        self._pause(delay * random.uniform(0.5, 1.5))  # noqa: S311 - nothing is kept secret by it
