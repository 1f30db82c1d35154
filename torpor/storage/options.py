"""What a transfer over a network may use, and what it has used so far."""

from __future__ import annotations

import threading
from typing import NamedTuple


class Options(NamedTuple):
    """Bounds of one transfer. Transports that use no network ignore them.

    `rate`: bytes a second, both ways together; 0: no limit. `connections`: the most requests at once. `deadline`: seconds for which
    a request that gets nowhere is tried again; what has begun by then may still take `stall` to fail. `connect`: seconds for a
    connection to be made. `stall`: seconds without a byte after which a connection is given up. `silence`: seconds
    without success at a control side's tunnel, after which it is asked whether there is another one now.
    """

    rate: int = 0
    connections: int = 64
    deadline: float = 300.0
    connect: float = 10.0
    stall: float = 60.0
    silence: float = 10.0


DEFAULT = Options()


class Counters(NamedTuple):
    """Requests sent, `retries` among them, bytes of bodies, and `pace`: how many requests at once the store is trusted with now."""

    requests: int = 0
    retries: int = 0
    sent: int = 0
    received: int = 0
    pace: int = 0

    def plus(self, other: Counters) -> Counters:
        """Both together; the greater pace."""
        return Counters(
            self.requests + other.requests, self.retries + other.retries,
            self.sent + other.sent, self.received + other.received, max(self.pace, other.pace),
        )  # fmt: skip


class Tally:
    """Counts for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = self._retries = self._sent = self._received = 0

    def add(self, requests: int = 0, retries: int = 0, sent: int = 0, received: int = 0) -> None:
        with self._lock:
            self._requests += requests
            self._retries += retries
            self._sent += sent
            self._received += received

    def read(self, pace: int) -> Counters:
        with self._lock:
            return Counters(self._requests, self._retries, self._sent, self._received, pace)
