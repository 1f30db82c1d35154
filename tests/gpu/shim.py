"""The kernels as plain C++ on this CPU: a `Device` whose blocks run one after another, their threads in any order wanted."""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torpor.gpu.coder import Argument, Array
from torpor.gpu.device import KERNELS
from torpor.gpu.records import ALIGN

FLAGS = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{KERNELS}"]
SANITIZE = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def compiler() -> str:
    found = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    assert found, "the kernels' tests need a C++ compiler. Debian: apt-get install g++"
    return found


def build(target: Path) -> Path:
    """The kernels as a shared library."""
    source = str(KERNELS / "kernels.cu")
    subprocess.run([compiler(), *FLAGS, "-O2", "-shared", "-fPIC", "-x", "c++", source, "-o", str(target)], check=True, timeout=120)
    return target


class Event:
    """Done once its stream has come to it."""

    done = False


class Shim:
    """`turn` orders the threads of a phase: results must not depend on it. One at a time.

    Its three streams do as little as they may, in orders drawn from `seed`: nothing before the host asks, and then one stream as far as
    it can go before another gets its turn. So a missing `after` shows, and a buffer that is used again too early.
    """

    def __init__(self, library: Path, turn: int = 0, seed: int = 1) -> None:
        self._library = ctypes.CDLL(str(library))
        self.turn = turn
        self._dice = random.Random(seed)
        self._streams: dict[str, deque[Callable[[], None] | Event | tuple[str, Event]]] = {"in": deque(), "work": deque(), "out": deque()}

    def zeros(self, size: int) -> Array:
        spare = np.zeros(size + 2 * ALIGN, np.uint8)
        start = -spare.ctypes.data % ALIGN
        return spare[start : start + size]

    def upload(self, data: NDArray[Any]) -> Array:
        array = self.zeros(data.nbytes)
        array[:] = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        return array

    def download(self, array: Array) -> NDArray[np.uint8]:
        self.wait(self.mark("work"))
        copy: NDArray[np.uint8] = array.copy()
        return copy

    def launch(self, kernel: str, blocks: int, arguments: Sequence[Argument]) -> None:
        self._streams["work"].append(partial(self._launch, kernel, blocks, list(arguments)))

    def room(self, size: int) -> Array:
        array = self.zeros(size)
        array[:] = 0xA5
        return array

    def pinned(self, size: int) -> NDArray[np.uint8]:
        return np.full(size, 0xA5, np.uint8)

    def register(self, memory: NDArray[np.uint8]) -> None:
        pass

    def free(self) -> int:
        return 1 << 30

    def clear(self, array: Array) -> None:
        self._streams["work"].append(partial(array.fill, 0))

    def copy_in(self, array: Array, host: NDArray[np.uint8]) -> None:
        self._streams["in"].append(partial(np.copyto, array, host))

    def copy_out(self, host: NDArray[np.uint8], array: Array) -> None:
        self._streams["out"].append(partial(np.copyto, host, array))

    def mark(self, stream: str) -> Event:
        event = Event()
        self._streams[stream].append(event)
        return event

    def after(self, stream: str, event: Event) -> None:
        self._streams[stream].append(("after", event))

    def done(self, event: Event) -> bool:
        order = self._order()
        for _ in range(self._dice.choice((0, 0, 3))):  # sometimes it goes on meanwhile
            self._step(order)
        return event.done

    def wait(self, event: Event) -> None:
        order = self._order()
        while not event.done:
            assert self._step(order), "it would wait for ever"

    def _order(self) -> list[str]:
        return self._dice.sample(list(self._streams), 3)

    def _step(self, order: list[str]) -> bool:
        """Do one thing, of the first stream that can; False if there is none."""
        queues = [self._streams[name] for name in order]
        ready = [queue for queue in queues if queue and not (isinstance(queue[0], tuple) and not queue[0][1].done)]
        if not ready:
            return False
        task = ready[0].popleft()
        if isinstance(task, Event):
            task.done = True
        elif not isinstance(task, tuple):
            task()
        return True

    def _launch(self, kernel: str, blocks: int, arguments: Sequence[Argument]) -> None:
        function = getattr(self._library, kernel)
        function.restype = None
        filled = [_argument(argument) for argument in arguments]
        block = ctypes.c_uint.in_dll(self._library, "shim_block")
        ctypes.c_uint.in_dll(self._library, "shim_blocks").value = blocks
        ctypes.c_uint.in_dll(self._library, "shim_turn").value = self.turn
        for number in range(blocks):
            block.value = number
            function(*filled)


def _argument(value: Argument) -> Any:
    if value is None:
        return ctypes.c_void_p(None)
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    return {8: ctypes.c_uint64, 4: ctypes.c_uint32}[value.nbytes](int(value))
