"""What the GPU does from memory to memory, through its process, as a job would use it: for `torpor bench` and benchmarks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from torpor.gpu.lane import START, Lane
from torpor.gpu.protocol import COPY_IN, COPY_OUT, DECODE, DONE, ENCODE, Row

SLOTS = 64


class NoGpu(Exception):
    """A GPU that shows itself can't be used; why, for people."""


class Tryout:
    """A lane that is open; all its slots at once. Figures are GB/s of raw bytes."""

    def __init__(self, lane: Lane, slots: int) -> None:
        self._lane = lane
        self._slots = slots
        self._pool = ThreadPoolExecutor(slots)

    def close(self) -> None:
        self._pool.shutdown()

    def copies(self, size: int, seconds: float) -> tuple[float, float]:
        """To the device, and from it."""
        rows = [Row(slot, size) for slot in range(self._slots)]
        return self._speed(COPY_IN, rows, seconds)[0], self._speed(COPY_OUT, rows, seconds)[0]

    def encode(self, raw: bytes, width: int, wanted: int, seconds: float) -> tuple[float, list[bytes]]:
        """Planes whose bit is in `wanted`; the speed, and what came of each slot."""
        for slot in range(self._slots):
            self._lane.raw(slot)[: len(raw)] = raw
        speed, rows = self._speed(ENCODE, [Row(slot, len(raw), 0, width, 0, wanted) for slot in range(self._slots)], seconds)
        return speed, [bytes(self._lane.coded(row.slot)[: row.coded]) for row in rows]

    def decode(self, coded: bytes, raw: int, seconds: float) -> tuple[float, list[bytes]]:
        """Likewise, of coded bytes that stand for `raw` bytes."""
        for slot in range(self._slots):
            self._lane.coded(slot)[: len(coded)] = coded
            self._lane.raw(slot)[:raw] = bytes(raw)
        speed, rows = self._speed(DECODE, [Row(slot, raw, len(coded)) for slot in range(self._slots)], seconds)
        return speed, [bytes(self._lane.raw(row.slot)[:raw]) for row in rows]

    def _speed(self, kind: int, rows: Sequence[Row], seconds: float) -> tuple[float, list[Row]]:
        """Each thread has its slot done over and over until time is up, after once to warm up."""
        self._once(kind, rows[0])
        until = time.perf_counter() + seconds

        def work(row: Row) -> tuple[Row, int]:
            done, times = self._once(kind, row), 1
            while time.perf_counter() < until:
                done, times = self._once(kind, row), times + 1
            return done, times

        began = time.perf_counter()
        found = list(self._pool.map(work, rows))
        spent = time.perf_counter() - began
        return sum(row.raw * times for row, times in found) / spent / 1e9, [row for row, _ in found]

    def _once(self, kind: int, row: Row) -> Row:
        done = self._lane.code(kind, row)
        if done is None or done.state != DONE:
            raise NoGpu("it did not do what it was given")
        return done


@contextmanager
def tryout(slots: int = 0) -> Iterator[Tryout]:
    """Start the GPU's process with so many slots (0: `SLOTS`), and end it. Raises `NoGpu`."""
    slots = slots or SLOTS
    settled = threading.Event()
    said: list[str] = []

    def failed(why: str) -> None:
        said.append(why)
        settled.set()

    lane = Lane(slots, settled.set, failed)
    lane.start()
    try:
        settled.wait(START + 10)
        if not lane.open:
            raise NoGpu(said[0] if said else "it did not answer")
        found = Tryout(lane, slots)
        try:
            yield found
        finally:
            found.close()
    finally:
        lane.close()
        lane.join()
