"""What a result must say of where it was measured: processor, cores, memory, system, versions, date."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from torpor import __version__
from torpor.clock import SYSTEM, rfc3339
from torpor.control.doctor import LIBRARIES
from torpor.native import kernels
from torpor.workspace import system


def describe() -> dict[str, object]:
    """The machine, and the day."""
    return {
        "cpu": _first("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": system.cores(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1024**3, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "date": rfc3339(SYSTEM.now())[:10],
    }


def versions() -> dict[str, str]:
    """torpor, its libraries, and whether its compiled kernels are there."""
    found = {"torpor": __version__, "kernels": "compiled" if kernels.library() is not None else "none"}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def file_system(path: str) -> str:
    """The kind of file system that a folder is on, such as ext4 or tmpfs; empty if the system does not tell."""
    real = os.path.realpath(path)
    found = ("", "")
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                _, place, kind, *_ = line.split(" ")
                if (real + "/").startswith(place.rstrip("/") + "/") and len(place) >= len(found[0]):
                    found = (place, kind)
    except OSError:
        return ""
    return found[1]


def peak_bytes() -> int:
    """The most memory this process has held so far.

    Not as `getrusage` has it: there a process begins with what the one that started it held.
    """
    return int(_first("/proc/self/status", "VmHWM").split()[0]) * 1024


def _first(path: str, key: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(key)), "")
    except OSError:
        return ""
