"""A `Device` for torpor/gpu/coder.py: CuPy compiles the kernels for the GPU at hand; copies and kernels have a stream each.

It has not been seen to run: tests of the mark `gpu` are waiting for a machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torpor.errors import MissingDependency
from torpor.gpu.coder import Argument, Array, Event, Stream
from torpor.gpu.records import ALIGN, THREADS

KERNELS = Path(__file__).with_name("kernels")
_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind


class Cuda:
    """The current GPU of CuPy. Raises `MissingDependency` without CuPy; CuPy's own errors without a GPU, and for what goes wrong on it.

    Its stream of kernels becomes the thread's current one. Use it from that thread alone.
    """

    def __init__(self) -> None:
        try:
            self._cupy: Any = import_module("cupy")
        except ImportError as error:
            raise MissingDependency("CuPy is not installed.", remedy="Install cupy-cuda13x, or cupy-cuda12x for older drivers.") from error
        options = ("--std=c++17", f"-I{KERNELS}")
        module = self._cupy.RawModule(code=(KERNELS / "kernels.cu").read_text(), options=options)
        self._kernels = {name: module.get_function(name) for name in THREADS}
        self._runtime = self._cupy.cuda.runtime
        self._streams = {name: self._cupy.cuda.Stream(non_blocking=True) for name in ("in", "work", "out")}
        self._streams["work"].use()  # kernels and memory of CuPy's own go there too

    def zeros(self, size: int) -> Array:
        # Whole words: kernels touch the last one as a word.
        return self._cupy.zeros(-(-size // ALIGN) * ALIGN, np.uint8)[:size]

    def upload(self, data: NDArray[Any]) -> Array:
        array = self.zeros(data.nbytes)
        array.set(np.ascontiguousarray(data).reshape(-1).view(np.uint8))
        self._streams["work"].synchronize()
        return array

    def download(self, array: Array) -> NDArray[np.uint8]:
        data: NDArray[np.uint8] = array.get()
        return data

    def launch(self, kernel: str, blocks: int, arguments: Sequence[Argument]) -> None:
        filled = tuple(np.uint64(0) if argument is None else argument for argument in arguments)
        self._kernels[kernel]((blocks,), (THREADS[kernel],), filled)

    def room(self, size: int) -> Array:
        array = self._cupy.empty(-(-size // ALIGN) * ALIGN, np.uint8)[:size]
        self._streams["work"].synchronize()  # other streams use it as well
        return array

    def pinned(self, size: int) -> NDArray[np.uint8]:
        return np.frombuffer(self._cupy.cuda.alloc_pinned_memory(size), np.uint8, size)

    def register(self, memory: NDArray[np.uint8]) -> None:
        # A container may not be allowed to lock so much memory. Copies are slower then, and right.
        with suppress(self._runtime.CUDARuntimeError):
            self._runtime.hostRegister(memory.ctypes.data, memory.nbytes, 0)

    def free(self) -> int:
        found: int = self._runtime.memGetInfo()[0]
        return found

    def clear(self, array: Array) -> None:
        self._runtime.memsetAsync(array.data.ptr, 0, array.nbytes, self._streams["work"].ptr)

    def copy_in(self, array: Array, host: NDArray[np.uint8]) -> None:
        self._runtime.memcpyAsync(array.data.ptr, host.ctypes.data, host.nbytes, _TO_DEVICE, self._streams["in"].ptr)

    def copy_out(self, host: NDArray[np.uint8], array: Array) -> None:
        self._runtime.memcpyAsync(host.ctypes.data, array.data.ptr, host.nbytes, _TO_HOST, self._streams["out"].ptr)

    def mark(self, stream: Stream) -> Event:
        event = self._cupy.cuda.Event(block=True, disable_timing=True)  # who waits for it sleeps
        event.record(self._streams[stream])
        return event

    def after(self, stream: Stream, event: Event) -> None:
        self._streams[stream].wait_event(event)

    def done(self, event: Event) -> bool:
        return bool(event.done)

    def wait(self, event: Event) -> None:
        event.synchronize()
