"""How fast is a call, with so many threads at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def speed(make: Callable[[], Callable[[], object]], size: int, threads: int, seconds: float, rounds: int = 2) -> float:
    """GB/s of `size` bytes a call, by `threads` threads that each call what `make` made for them.

    `seconds`: about how long one round takes; the best of `rounds` counts. What a call raises in its first run is raised here.
    """
    calls = [make() for _ in range(threads)]
    calls[0]()
    began = time.perf_counter()
    calls[0]()
    times = max(1, int(seconds / max(time.perf_counter() - began, 1e-9)))
    best = min(_round(calls, times) for _ in range(rounds))
    return size * threads * times / best / 1e9


def _round(calls: list[Callable[[], object]], times: int) -> float:
    """Seconds until each thread has made its call `times` times."""
    start = threading.Barrier(len(calls) + 1)

    def run(call: Callable[[], object]) -> None:
        start.wait()
        for _ in range(times):
            call()

    # Daemons: a signal may take the main thread away from here.
    workers = [threading.Thread(target=run, args=(call,), daemon=True) for call in calls]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began


def best(call: Callable[[], object], rounds: int = 3) -> float:
    """Seconds of one call: the best of `rounds`."""
    found = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        found = min(found, time.perf_counter() - began)
    return found
