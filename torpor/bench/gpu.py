"""Rows of the GPU: whether there is one, and what it does for torpor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torpor.bench.rows import Row

_DRIVER = Path("/proc/driver/nvidia")
NAMES = ("copy to the GPU", "copy from the GPU", "bf16, planes on the GPU: encode", "bf16, planes on the GPU: decode")


def names() -> list[str]:
    """The models of NVIDIA GPUs that the driver shows; empty where there is none."""
    found: list[str] = []
    for path in sorted(_DRIVER.glob("gpus/*/information")):
        for line in path.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model":
                found.append(value.strip())
    return found


def rows() -> Iterator[Row]:
    """One row for each figure, without a value where there is nothing to measure."""
    here = names()
    note = f"{', '.join(here)}: this version has no codec for it" if here else "no GPU"
    for name in NAMES:
        yield Row(group="gpu", name=name, unit="GB/s", note=note)
