"""GPUs by name, in whatever spelling: `RTX 4090`, `rtx_4090`, `NVIDIA GeForce RTX 4090`, `4090`; `A100 80GB`, `nvidia-a100-80gb`. Pure."""

from __future__ import annotations

import re

import msgspec

_GIB = 1 << 30
_VENDOR = frozenset({"NVIDIA", "GEFORCE", "TESLA", "QUADRO", "AMD", "RADEON", "INSTINCT", "GPU", "GENERATION"})
# How a chip is built in, or what memory it has: names leave it out as they like, so it counts only where both say it.
_FORM = frozenset({"SXM", "SXM2", "SXM3", "SXM4", "SXM5", "SXM6", "PCIE", "NVL", "NVLINK", "HBM2", "HBM2E", "HBM3", "HBM3E", "MEGA", "WS"})
_MEMORY = re.compile(r"([0-9]{1,4})G(I?B)?\Z")
_SERIES = ("RTX", "GTX")


class Gpu(msgspec.Struct, frozen=True):
    """`core`: the chip's name without spaces. `form`: how it is built in. `memory`: GB of each, 0 if the name does not say."""

    core: str
    form: frozenset[str]
    memory: int


def parse(name: str) -> Gpu:
    core: list[str] = []
    form: set[str] = set()
    memory = 0
    for word in re.findall(r"[A-Z0-9]+", name.upper()):
        found = _MEMORY.match(word)
        if found:
            memory = int(found[1])
        elif word in _FORM:
            form.add(word)
        elif word not in _VENDOR:
            core.append(word)
    return Gpu("".join(core), frozenset(form), memory)


def fits(wanted: str, offered: str, gpu_bytes: int = 0) -> bool:
    """Whether a GPU called `offered`, of so many bytes (0: not told), is what `wanted` names. Empty: any.

    `RTX 4090` is no `RTX 4090 D`, and `3080` no `3080 Ti`: another chip is another name. `A100` is any A100.
    """
    want, have = parse(wanted), parse(offered)
    if not want.core and not want.form and not want.memory:
        return True
    if want.core and want.core != have.core and want.core != _bare(have.core):
        return False
    if not want.form <= have.form:
        return False
    if not want.memory:
        return True
    if have.memory:
        return want.memory == have.memory
    return not gpu_bytes or 0.9 <= gpu_bytes / (want.memory * _GIB) <= 1.1  # drivers tell a little less than the label


def _bare(core: str) -> str:
    for series in _SERIES:
        if core.startswith(series):
            return core.removeprefix(series)
    return core
