"""Is the GPU worth its process? Told from what it did in this very job, against one core's codec."""

from __future__ import annotations

from torpor.gpu.lane import Speed

ENOUGH = 256 << 20  # bytes before anything is concluded


def slower(speed: Speed, core: float | None) -> str:
    """Why the GPU should be given up; empty if it should not. `core`: bytes a second that one core codes; None: not known.

    It must spare the CPU more than its process takes from it; and where it was given all it takes, it must not be slower than one core,
    since the last chunks of a job wait for it.
    """
    if core is None or speed.bytes < ENOUGH:
        return ""
    if speed.spent * core > speed.bytes:
        return f"its process takes a core {_each(speed.bytes / speed.spent)}, the codec {_each(core)}"
    if speed.full_bytes >= ENOUGH and speed.rate is not None and speed.rate < core:
        return f"it does {_each(speed.rate)}, a core {_each(core)}"
    return ""


def _each(rate: float) -> str:
    return f"{rate / 1e9:.2f} GB/s"
