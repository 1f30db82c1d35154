"""The kernels as plain C++ on this CPU: a `Device` whose blocks run one after another, their threads in any order wanted."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
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


class Shim:
    """`turn` orders the threads of a phase: results must not depend on it. One at a time."""

    def __init__(self, library: Path, turn: int = 0) -> None:
        self._library = ctypes.CDLL(str(library))
        self.turn = turn

    def zeros(self, size: int) -> Array:
        spare = np.zeros(size + 2 * ALIGN, np.uint8)
        start = -spare.ctypes.data % ALIGN
        return spare[start : start + size]

    def upload(self, data: NDArray[Any]) -> Array:
        array = self.zeros(data.nbytes)
        array[:] = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        return array

    def download(self, array: Array) -> NDArray[np.uint8]:
        copy: NDArray[np.uint8] = array.copy()
        return copy

    def launch(self, kernel: str, blocks: int, arguments: Sequence[Argument]) -> None:
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
