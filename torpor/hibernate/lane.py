"""A snapshot's use of a GPU: when it is worth its process, which chunks it codes, and what is done before those are believed.

Workers and the GPU's own threads take work from one queue. A thread of the GPU reads a chunk straight into its slot, gives it to the GPU
and waits; so the GPU gets what it can take, and workers go on coding beside it at their own speed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from torpor.codecs.planes import worth
from torpor.codecs.planes_layout import parse
from torpor.codecs.table import by_id
from torpor.errors import Damaged, Malformed
from torpor.format.version import CHUNK_MAX, CODEC_PLANES
from torpor.gpu.lane import Lane
from torpor.gpu.protocol import ENCODE, REFUSED, UNABLE, Row
from torpor.gpu.worth import slower
from torpor.plan import limits
from torpor.workspace import system

if TYPE_CHECKING:
    from torpor.codecs.base import Buffer, Codec, Hint, Scratch
    from torpor.events import Progress

LEAST = 2 << 30  # bytes of planes to come, or seen, that a GPU is started for
TASTE = 64 << 20  # bytes of planes that workers code first: what there is, and how fast they are, is known by then
FIRST = 32  # chunks from the GPU that are all decoded before any is believed …
EVERY = 32  # … and later one in so many

Coded = tuple[memoryview, "Buffer | None"]


class Way(Protocol):
    """How a thread codes chunks of large files: the bytes to go on with (their content is the same), and what became of them."""

    def encode(self, codec: Codec, data: memoryview, scratch: Scratch, hint: Hint, id: bytes) -> Coded: ...


class Gpu:
    """One snapshot's. `grow` adds threads to the crew: one for each way given, as long as they are wanted."""

    def __init__(
        self, progress: Progress, memory: int, compare: bool, hash: Callable[[memoryview], bytes],  # noqa: A002 - what it does
        grow: Callable[[Sequence[LaneWay], Callable[[], bool]], None],
    ) -> None:  # fmt: skip
        self._progress = progress
        self._memory = memory
        self._every = 1 if compare else EVERY
        self._hash = hash
        self._grow = grow
        self._lock = threading.Lock()
        self._checking = threading.Lock()
        self._out: bytearray | None = None
        self._tried = False
        self._expected = self._coded = self._planes = 0
        self._seconds = 0.0
        self._asked = self._checked = self._unchecked = 0
        self._wrong = False
        self.meter = Meter(self)
        self.lane: Lane | None = None
        self._ways: list[LaneWay] = []
        self.tainted = False  # chunks went into packs that may be wrong

    def expect(self, size: int) -> None:
        """A large file of this size is about to be read."""
        with self._lock:
            self._expected += size

    def saw(self, codec: int, size: int, seconds: float) -> None:
        """A worker coded a chunk, in so much processor time; enough of them start the GPU's process."""
        with self._lock:
            self._coded += size
            if codec != CODEC_PLANES:
                return
            self._planes += size
            self._seconds += seconds
            to_come = max(0, self._expected - self._coded) * self._planes / self._coded
            if self._tried or self._planes < TASTE or (to_come < LEAST and self._planes < LEAST):
                return
            self._tried = True
        self._start()

    def _start(self) -> None:
        slots = limits.slots(self._memory, system.available_memory())
        if not slots:
            return
        try:
            self.lane = Lane(slots, self._ready, self._failed)
            self.lane.start()
        except OSError as error:
            self._failed(error.strerror or str(error))

    def _ready(self) -> None:
        lane = self.lane
        if lane is not None:
            self._ways = [LaneWay(self, lane, slot) for slot in range(lane.slots)]
            self._grow(self._ways, lambda: lane.open)

    def _failed(self, why: str) -> None:
        self._progress.note(f"The GPU is not used any more: {why}. The CPU does its work; nothing is lost.", "warning")

    def judge(self, lane: Lane) -> None:
        """Give the lane up if it is slower than a worker."""
        with self._lock:
            rate = self._planes / self._seconds if self._seconds else None
        why = slower(lane.speed, rate)
        if why and lane.close():
            self._progress.note(f"The GPU is not used any more: {why}.")

    def believes(self, coded: memoryview, raw: int, id: bytes, scratch: Scratch) -> bool:
        """Whether coded bytes from the GPU may be kept: all are looked at, the first ones and some later are decoded.

        Raises `Damaged` if one is wrong after others were believed.
        """
        with self._lock:
            self._asked += 1
            check = self._checked < FIRST or self._asked % self._every == 0
        try:
            parse(coded, raw)
            right = not check or self._decodes(coded, raw, id, scratch)
        except Malformed:
            right = False
        with self._lock:
            right = right and (check or not self._wrong)
            self._checked += check and right
            self._unchecked += right and not check
            if right:
                return True
            self._wrong = True
            self.tainted = self._unchecked > 0
        if self.tainted:
            raise Damaged(
                "A chunk that the GPU coded does not decode to what it was, and others before it were not looked at.",
                safe="Nothing was committed, the source was not touched, and what this attempt stored is not used again.",
                remedy="Run the snapshot again with TORPOR_GPU=off, and look at the GPU.",
            )
        return False

    def _decodes(self, coded: memoryview, raw: int, id: bytes, scratch: Scratch) -> bool:
        with self._checking:
            if self._out is None:
                self._out = bytearray(CHUNK_MAX)
            out = memoryview(self._out)[:raw]
            by_id(CODEC_PLANES).decode(coded, raw, out, scratch)
            return self._hash(out) == id

    def close(self) -> None:
        """End the GPU's process; threads that wait for it go on without."""
        if self.lane is not None:
            self.lane.close()

    def join(self) -> None:
        """After `close`, when the crew has ended: give memory back."""
        if self.lane is not None:
            for way in self._ways:
                way.raw.release()
            self.lane.join()

    def own(self, data: memoryview, id: bytes) -> memoryview:
        """Bytes of a slot, out of the reach of a GPU that was given up."""
        own = memoryview(bytes(data))
        if self._hash(own) != id:
            raise Damaged(
                "A chunk changed in memory while a GPU that failed had it in hand.",
                safe="Nothing was committed and the source was not touched.",
                remedy="Run the snapshot again with TORPOR_GPU=off.",
            )
        return own


class Meter:
    """A worker's way: the CPU, and its time is taken."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def encode(self, codec: Codec, data: memoryview, scratch: Scratch, hint: Hint, id: bytes) -> Coded:
        began = time.thread_time()
        coded = codec.encode(data, scratch, hint)
        self._gpu.saw(codec.id, len(data), time.thread_time() - began)
        return data, coded


class LaneWay:
    """The way of a thread that has a slot: planes by the GPU, all else by the CPU."""

    def __init__(self, gpu: Gpu, lane: Lane, slot: int) -> None:
        self._gpu = gpu
        self._lane = lane
        self._slot = slot
        self.raw = lane.raw(slot)

    def encode(self, codec: Codec, data: memoryview, scratch: Scratch, hint: Hint, id: bytes) -> Coded:
        """`data`: the beginning of `raw`."""
        by_cpu = partial(codec.encode, scratch=scratch, hint=hint)
        if codec.id != CODEC_PLANES:
            return data, by_cpu(data)
        lead, wanted = worth(data, hint)
        if not any(wanted):
            return data, None
        lane, gpu = self._lane, self._gpu
        mask = sum(want << plane for plane, want in enumerate(wanted))
        row = lane.code(ENCODE, Row(self._slot, len(data), 0, len(wanted), lead, mask))
        if row is not None and row.state == REFUSED:
            return data, None
        if row is not None and row.state == UNABLE:
            return data, by_cpu(data)
        if row is not None:
            coded = lane.coded(self._slot)[: row.coded]
            if gpu.believes(coded, len(data), id, scratch):
                gpu.judge(lane)
                return data, coded
            lane.close("a chunk that it coded does not decode to what it was")
        own = gpu.own(data, id)
        return own, by_cpu(own)
