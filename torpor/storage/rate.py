"""A limit on bytes a second, shared by all threads of a transfer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torpor.storage.retry import Timing

BURST = 0.25  # seconds' worth that may be taken at once after a rest


class Rate:
    """Hands out bytes at `limit` bytes a second; 0: at any speed. Who takes more than is there pays by waiting, in the order of asking."""

    def __init__(self, limit: int, timing: Timing) -> None:
        self._limit = limit
        self._timing = timing
        self._lock = threading.Lock()
        self._paid = timing.now()  # until when the bytes handed out so far last

    def take(self, count: int) -> None:
        """Return when `count` bytes may be moved."""
        if not self._limit:
            return
        with self._lock:
            now = self._timing.now()
            start = max(self._paid, now - BURST)
            self._paid = start + count / self._limit
            wait = self._paid - now
        if wait > 0:
            self._timing.sleep(wait)
