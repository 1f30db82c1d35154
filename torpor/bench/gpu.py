"""Rows of the GPU: whether there is one, and what it does for torpor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torpor.bench import data
from torpor.bench.rows import Row
from torpor.gpu import detect

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


def rows(seconds: float) -> Iterator[Row]:
    """One row for each figure, without a value where there is nothing to measure. `seconds`: how long one takes."""
    here = ", ".join(names())
    if not detect.present():
        yield from _without(f"{here}: CuPy is not installed" if here else "no GPU")
        return
    from torpor.gpu.tryout import NoGpu

    try:
        yield from _measured(here, seconds)
    except NoGpu as error:
        yield from _without(f"{here}: {error}")


def _without(note: str) -> Iterator[Row]:
    for name in NAMES:
        yield Row(group="gpu", name=name, unit="GB/s", note=note)


def _measured(here: str, seconds: float) -> list[Row]:
    """From memory to memory, through the process that jobs use; copies are the limit of what follows."""
    from torpor.gpu.tryout import NoGpu, tryout

    raw = data.kinds()["bf16"]
    with tryout() as gpu:
        to, back = gpu.copies(len(raw), seconds)
        encode, coded = gpu.encode(raw, 2, 0b10, seconds)
        decode, decoded = gpu.decode(coded[0], len(raw), seconds)
    if len({*coded}) > 1 or {*decoded} != {raw}:
        raise NoGpu("it does not give back what it was given")
    ratio = len(raw) / len(coded[0])
    values = (to, back, encode, decode)
    limits = (None, None, to, back)
    notes = (here, here, f"ratio {ratio:.2f}", f"ratio {ratio:.2f}")
    return [
        Row(group="gpu", name=name, value=value, unit="GB/s", limit=limit, limit_name=NAMES[at - 2] if limit else "", note=note)
        for at, (name, value, limit, note) in enumerate(zip(NAMES, values, limits, notes, strict=True))
    ]
