"""The process of the GPU with a CPU in its place: `shim_child.py LIBRARY FAULT AFTER SOCKET MEMORY`.

FAULT, from batch number AFTER on: `none`; `hang`, it does not answer; `die`; `memory`, as if the device had none left; `flip`, one bit of
a copy from the device; `flip_in`, one of a copy to it; `lie`, it answers for other chunks; `unable`, no chunk; `early`, no memory at start.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.gpu.shim import Shim
from torpor.gpu import batches, child
from torpor.gpu.coder import Array, Device
from torpor.gpu.protocol import UNABLE, Batch

FAULT, AFTER = sys.argv[2], int(sys.argv[3])
_run, _say = batches.run, child.Server._say
_count = 0


class Faulty(Shim):
    def copy_out(self, host: NDArray[np.uint8], array: Array) -> None:
        super().copy_out(host, array)
        if FAULT == "flip" and _count > AFTER and len(host) > 100_000:
            self._streams["out"].append(lambda: _flip(host))

    def copy_in(self, array: Array, host: NDArray[np.uint8]) -> None:
        super().copy_in(array, host)
        if FAULT == "flip_in" and _count > AFTER and len(host) > 100_000:
            self._streams["in"].append(lambda: _flip(array))

    def free(self) -> int:
        return 1 << 20 if FAULT == "early" else super().free()


def _flip(array: NDArray[np.uint8]) -> None:
    array[len(array) // 3] ^= 4  # well inside a frame


def run(*arguments: Any) -> batches.Steps:
    global _count  # noqa: PLW0603
    _count += 1
    if _count > AFTER:
        if FAULT == "hang":
            signal.pause()
        if FAULT == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if FAULT == "memory":
            raise MemoryError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")
    return _run(*arguments)


def say(server: child.Server, batch: Batch) -> None:
    if batch.rows and _count > AFTER and FAULT == "lie":
        batch = batch._replace(rows=[row._replace(slot=row.slot ^ 1) for row in batch.rows])
    if batch.rows and _count > AFTER and FAULT == "unable":
        batch = batch._replace(rows=[row._replace(state=UNABLE) for row in batch.rows])
    _say(server, batch)


def make() -> Device:
    return Faulty(Path(sys.argv[1]), seed=os.getpid())


vars(batches)["run"] = run
setattr(child.Server, "_say", say)  # noqa: B010
sys.exit(child.main(make))
