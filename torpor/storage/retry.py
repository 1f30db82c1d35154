"""When a request is tried again, and when it is given up: waits that double, chance in them, and a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from torpor.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST = 0.2  # seconds: the longest first wait
LONGEST = 20.0  # seconds: the longest wait of our own choice
ASKED = 60.0  # seconds: the longest wait that a server can ask for


class Timing(NamedTuple):
    """What a try waits by: seconds that never go back, a way to sleep so many, and a number from 0 to 1."""

    now: Callable[[], float]
    sleep: Callable[[float], object]
    random: Callable[[], float]


def system_timing(sleep: Callable[[float], object] = time.sleep) -> Timing:
    from random import random

    return Timing(time.monotonic, sleep, random)


class Again(Exception):
    """A try failed, and another may not. Says what happened; never a URL.

    `after`: seconds that the server asked for. `busy`: it has too much to do. `stale`: a kept connection had ended, which says
    nothing of the server. `sent`: it may have taken effect.
    """

    def __init__(self, what: str, *, after: float = 0.0, busy: bool = False, stale: bool = False, sent: bool = False) -> None:
        super().__init__(what)
        self.after = after
        self.busy = busy
        self.stale = stale
        self.sent = sent


def retry_after(text: str, now: float) -> float:
    """Seconds that a `Retry-After` header asks for, at most `ASKED`; 0 for none and for what says nothing.

    It holds seconds, or a date. `now`: seconds since 1970.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(ASKED, float(text[:9]))
    if not text:
        return 0.0
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, min(ASKED, parsedate_to_datetime(text).timestamp() - now))
    except (ValueError, OverflowError, OSError):
        return 0.0


def backoff(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row (from 1): any share of a bound that doubles, so that hosts do not come in step."""
    return chance * min(LONGEST, FIRST * 2.0 ** min(failures - 1, 32))


class Tries:
    """The tries of one request. For one thread.

    The deadline counts from the start, or from the last progress: a download that goes on where it broke has made some.
    """

    def __init__(self, what: str, deadline: float, timing: Timing) -> None:
        self._what = what
        self._deadline = deadline
        self._timing = timing
        self.failures = 0
        self._end = timing.now() + deadline

    def progress(self) -> None:
        self.failures = 0
        self._end = self._timing.now() + self._deadline

    def left(self) -> float:
        """Seconds until the deadline; may be negative."""
        return self._end - self._timing.now()

    def wait(self, failure: Again) -> None:
        """Return when it is time for the next try; `StorageUnavailable` if there will be none."""
        if failure.stale:
            return
        self.failures += 1
        delay = max(failure.after, backoff(self.failures, self._timing.random()))
        if delay >= self.left():
            raise StorageUnavailable(
                f"{self._what} failed {self.failures} times within {self._deadline:g} s; the last time: {failure}.",
                safe="What is in storage already is as it was.",
                remedy="Check the network and the state of the storage provider, then run the command again: it goes on from there.",
            ) from failure
        self._timing.sleep(delay)
