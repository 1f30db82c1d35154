"""A `Device` for torpor/gpu/coder.py: CuPy compiles the kernels for the GPU at hand and runs them on one stream.

It has not been seen to run: tests of the mark `gpu` are waiting for a machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torpor.errors import MissingDependency
from torpor.gpu.coder import Argument, Array
from torpor.gpu.records import ALIGN, THREADS

KERNELS = Path(__file__).with_name("kernels")


class Cuda:
    """The current GPU of CuPy, on its current stream. Raises `MissingDependency` without CuPy; CuPy's own errors without a GPU."""

    def __init__(self) -> None:
        try:
            self._cupy: Any = import_module("cupy")
        except ImportError as error:
            raise MissingDependency("CuPy is not installed.", remedy="Install cupy-cuda13x, or cupy-cuda12x for older drivers.") from error
        options = ("--std=c++17", f"-I{KERNELS}")
        module = self._cupy.RawModule(code=(KERNELS / "kernels.cu").read_text(), options=options)
        self._kernels = {name: module.get_function(name) for name in THREADS}

    def zeros(self, size: int) -> Array:
        # Whole words: kernels touch the last one as a word.
        return self._cupy.zeros(-(-size // ALIGN) * ALIGN, np.uint8)[:size]

    def upload(self, data: NDArray[Any]) -> Array:
        array = self.zeros(data.nbytes)
        array.set(np.ascontiguousarray(data).reshape(-1).view(np.uint8))
        return array

    def download(self, array: Array) -> NDArray[np.uint8]:
        data: NDArray[np.uint8] = array.get()
        return data

    def launch(self, kernel: str, blocks: int, arguments: Sequence[Argument]) -> None:
        filled = tuple(np.uint64(0) if argument is None else argument for argument in arguments)
        self._kernels[kernel]((blocks,), (THREADS[kernel],), filled)
