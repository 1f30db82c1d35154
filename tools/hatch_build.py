"""Compiles torpor/native/*.c into the package when torpor is built or installed; without a compiler it says so and goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("torpor/native")
FLAGS = ["-std=gnu11", "-O3", "-fPIC", "-shared", "-Wall", "-Wextra"]


class Build(BuildHookInterface):  # type: ignore[type-arg]
    """Makes a wheel for this platform, or one for all if nothing could be compiled."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        made = compile_kernels(root / NATIVE)
        if made is not None:
            build_data["artifacts"].append(str(made.relative_to(root)))
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def compile_kernels(folder: Path) -> Path | None:
    """The shared library, beside its sources; None if there is no compiler, or none that can."""
    target = folder / "_kernels.so"
    target.unlink(missing_ok=True)
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)
    if compiler is None:
        print("torpor: no C compiler (cc, gcc, clang): built without compiled kernels, which is slower", file=sys.stderr)
        return None
    sources = sorted(str(path) for path in folder.glob("*.c"))
    for extra in ([], ["-DNO_CLONES"]):  # not every C library picks functions at load time
        temporary = target.with_suffix(f".{os.getpid()}")
        done = subprocess.run([compiler, *FLAGS, *extra, "-o", str(temporary), *sources], check=False, capture_output=True, text=True)
        if done.returncode == 0:
            temporary.rename(target)  # whole or not at all: another process may load it now
            return target
    print(f"torpor: {compiler} failed, built without compiled kernels, which is slower:\n{done.stderr}", file=sys.stderr)
    return None
