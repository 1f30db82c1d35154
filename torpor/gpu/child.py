"""The process that owns the GPU: takes batches of chunks from the engine, one message each, and answers when they are done.

`python -m torpor.gpu.child SOCKET MEMORY`: two inherited descriptors. It holds no key and sees nothing but raw and coded bytes. Whatever
goes wrong here ends it: the engine notices, does the work again itself, and starts no other.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from mmap import mmap

import numpy as np

from torpor.gpu import batches, protocol
from torpor.gpu.batches import Room, Steps
from torpor.gpu.coder import Device, Event
from torpor.gpu.protocol import BATCH_MAX, DEPTH, READY, SIZE, SLOT, Batch

PART = 4  # of the device's free memory, one in so many bytes is taken at most …
_ROOM_MAX = 3 << 30  # … and no more than this
_LEAST = 4  # chunks of a batch: with less, a GPU is not worth the trouble
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Busy:
    """A batch under way, and the event it waits for."""

    def __init__(self, batch: Batch, room: Room, steps: Steps) -> None:
        self.batch = batch
        self.room = room
        self.steps = steps
        self.event: Event = next(steps)


class Server:
    """Serves one engine until it hangs up."""

    def __init__(self, channel: socket.socket, memory: mmap, device: Device) -> None:
        self._channel = channel
        self._memory = np.frombuffer(memory, np.uint8)
        self._device = device
        self._slots = len(memory) // SLOT
        limit = min(BATCH_MAX, self._slots, min(device.free() // PART, _ROOM_MAX) // DEPTH // Room.size(1))
        if limit < min(_LEAST, self._slots):
            raise MemoryError("the GPU's memory is in use by others")
        self._rooms = [Room(device, limit) for _ in range(DEPTH)]
        self._limit = limit
        device.register(self._memory)
        self._busy: list[Busy] = []

    def serve(self) -> None:
        self._say(Batch(READY, 0, []))
        while self._accept():
            ready = next((busy for busy in self._busy if self._device.done(busy.event)), self._busy[0])
            self._device.wait(ready.event)
            self._advance(ready)

    def _accept(self) -> bool:
        """Take what there is to be done, and wait for it if there is nothing else; False: the engine hung up."""
        while self._rooms:
            if self._busy and not select.select([self._channel], [], [], 0)[0]:
                return True
            message = self._channel.recv(SIZE)
            if not message:
                return False
            batch = protocol.unpack(message, self._slots)
            if not 0 < len(batch.rows) <= self._limit:
                raise ValueError("a batch of another size than was agreed")
            room = self._rooms.pop()
            self._busy.append(Busy(batch, room, batches.run(self._device, room, self._memory, batch.kind, batch.rows)))
        return True

    def _advance(self, busy: Busy) -> None:
        try:
            busy.event = next(busy.steps)
        except StopIteration as end:
            self._busy.remove(busy)
            self._rooms.append(busy.room)
            self._say(busy.batch._replace(rows=end.value))

    def _say(self, batch: Batch) -> None:
        self._channel.sendall(protocol.pack(batch._replace(spent=time.process_time_ns(), limit=self._limit)))


def main(make: Callable[[], Device]) -> int:
    """Serve with the device that `make` makes; the exit code is returned."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        return 1  # it was gone before
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the engine decides when to end
    channel = socket.socket(fileno=int(sys.argv[-2]))
    memory = mmap(int(sys.argv[-1]), 0)
    try:
        Server(channel, memory, make()).serve()
    except (BrokenPipeError, ConnectionResetError):
        return 0
    return 0


def _cuda() -> Device:
    from torpor.gpu.device import Cuda

    return Cuda()


if __name__ == "__main__":
    sys.exit(main(_cuda))
