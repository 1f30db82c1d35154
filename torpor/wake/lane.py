"""A restore's use of a GPU: threads beside the decoding ones, each with a slot, that take units from the same queue.

What comes from the GPU is believed when its id is right. Everything else goes to the CPU, from the sealed bytes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from torpor.codecs.table import by_id
from torpor.format.version import CODEC_PLANES
from torpor.gpu.lane import Lane
from torpor.gpu.protocol import DECODE, DONE, Row
from torpor.gpu.worth import slower
from torpor.plan import limits
from torpor.workspace import system

if TYPE_CHECKING:
    from array import array

    from torpor.events import Progress
    from torpor.format.chunks import ChunkList
    from torpor.wake.worker import Worker
    from torpor.workspace.crew import Crew

LEAST = 2 << 30  # raw bytes of planes that a GPU is started for
TASTE = 8  # chunks that the GPU's own threads let the CPU decode, to know how fast it is


class Gpu:
    """One restore's. `make` makes a worker; `hash` is the id of bytes."""

    def __init__(
        self, progress: Progress, crew: Crew[Worker], make: Callable[[], Worker], hash: Callable[[memoryview], bytes],  # noqa: A002
        slots: int,
    ) -> None:  # fmt: skip
        self._progress = progress
        self._crew = crew
        self._make = make
        self.hash = hash
        self._lock = threading.Lock()
        self._left = TASTE
        self._bytes = 0
        self._seconds = 0.0
        self.lane = Lane(slots, self._ready, self._failed)
        self.lane.start()

    def _ready(self) -> None:
        setups = [partial(self._worker, slot) for slot in range(self.lane.slots)]
        self._crew.grow("gpu", setups, lambda: self.lane.open)

    def _worker(self, slot: int) -> Worker:
        worker = self._make()
        worker.lane = Slot(self, slot)
        return worker

    def _failed(self, why: str) -> None:
        self._progress.note(f"The GPU is not used any more: {why}. The CPU does its work; nothing is lost.", "warning")

    def tastes(self) -> bool:
        """Whether the CPU should decode this one, for comparison."""
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def tasted(self, size: int, seconds: float) -> None:
        with self._lock:
            self._bytes += size
            self._seconds += seconds

    def judge(self) -> None:
        """Give the lane up if it is slower than a worker."""
        why = slower(self.lane.speed, self._bytes / self._seconds if self._seconds else None)
        if why and self.lane.close():
            self._progress.note(f"The GPU is not used any more: {why}.")

    def close(self) -> None:
        """End the GPU's process; threads that wait for it go on without."""
        self.lane.close()

    def join(self) -> None:
        """After `close`, when the crew has ended."""
        self.lane.join()


class Slot:
    """What a thread of the GPU decodes with."""

    def __init__(self, gpu: Gpu, slot: int) -> None:
        self._gpu = gpu
        self._slot = slot

    def decode(self, unseal: Callable[[memoryview], object], size: int, raw: int, id: bytes, worker: Worker) -> memoryview | None:
        """The bytes of a chunk of planes, whose id is right; None: the CPU must do it. `unseal` writes its `size` coded bytes."""
        gpu, lane = self._gpu, self._gpu.lane
        if gpu.tastes():
            return self._taste(unseal, size, raw, id, worker)
        if not lane.open:
            return None
        unseal(lane.coded(self._slot)[:size])
        row = lane.code(DECODE, Row(self._slot, raw, size))
        if row is None or row.state != DONE:
            return None
        out = lane.raw(self._slot)[:raw]
        if gpu.hash(out) != id:
            lane.close("it decoded a chunk to bytes that have another id")
            return None
        gpu.judge()
        return out

    def _taste(self, unseal: Callable[[memoryview], object], size: int, raw: int, id: bytes, worker: Worker) -> memoryview | None:
        coded, out = memoryview(worker.coded)[:size], memoryview(worker.raw)[:raw]
        unseal(coded)
        began = time.thread_time()
        by_id(CODEC_PLANES).decode(coded, raw, out, worker.scratch)
        self._gpu.tasted(raw, time.thread_time() - began)
        return out if self._gpu.hash(out) == id else None


def gpu_for(
    memory: int, progress: Progress, places: array[int], chunks: ChunkList, crew: Crew[Worker], make: Callable[[], Worker],
    hash: Callable[[memoryview], bytes],  # noqa: A002
) -> Gpu | None:  # fmt: skip
    """The GPU for a restore that wants the chunks at `places`; None where it is not worth it. `memory`: bytes that the job may use."""
    if sum(chunks.raw[place] for place in set(places) if chunks.codec[place] == CODEC_PLANES) < LEAST:
        return None
    slots = limits.slots(memory, system.available_memory())
    try:
        return Gpu(progress, crew, make, hash, slots) if slots else None
    except OSError as error:
        progress.note(f"The GPU is not used: {error.strerror}.", "warning")
        return None
