"""The second bundle of a host with an NVIDIA GPU: CuPy for its driver. Only if it is asked for, and never required."""

from __future__ import annotations

import hashlib
import re
from importlib import metadata
from pathlib import Path

from torpor.errors import HostFailed, MissingDependency
from torpor.remote import bundle, closure, wheels
from torpor.remote.bundle import Bundle
from torpor.remote.contents import Contents, kept, unzipped
from torpor.remote.platforms import Platform

# The first driver branch for each CUDA, newest first: NVIDIA's table of CUDA toolkits and the drivers that they need.
BRANCHES = ((580, "gpu-cuda13"), (525, "gpu-cuda12"))


def extra(driver: str) -> str:
    """Torpor's extra for a driver such as `570.86.15`; empty where there is no driver, or one too old."""
    major = int(driver.partition(".")[0] or 0)
    return next((name for first, name in BRANCHES if major >= first), "")


def requirements(name: str) -> list[str]:
    """What an extra of torpor's asks for, such as `cupy-cuda12x!=14.1.0,<15,>=14`."""
    lines = (re.fullmatch(r"""(.*\S)\s*;\s*extra == ['"](.+)['"]""", line) for line in metadata.requires("torpor") or ())
    return [line[1].replace(" ", "") for line in lines if line and line[2] == name]


def bundle_for(driver: str, where: Platform, cache: Path) -> tuple[list[Bundle], str]:
    """The bundle, or none and why."""
    name = extra(driver)
    if not name:
        return [], f"The host's NVIDIA driver {driver} is older than CUDA 12." if driver else "The host shows no NVIDIA driver."
    wanted = requirements(name)
    key = hashlib.sha256(repr((wanted, where)).encode()).hexdigest()[:32]
    try:
        return [bundle.kept(key, lambda: _contents(wanted, where, cache), cache)], ""
    except (HostFailed, MissingDependency) as error:
        return [], error.what


def _contents(wanted: list[str], where: Platform, cache: Path) -> Contents:
    found: Contents = {}
    for wheel in wheels.fetch(wanted, where, cache, whole=True):
        found.update(kept(unzipped(wheel)))
    found["__main__.py"] = closure.modules()["torpor.remote.entry"].read_bytes()
    return found
