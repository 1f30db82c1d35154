"""Is there a GPU that is worth a process? Told from a few paths, without importing anything that knows GPUs."""

from __future__ import annotations

import os

_DEVICE = ("/dev/nvidiactl", "/proc/driver/nvidia")


def present() -> bool:
    """Whether a driver shows itself and CuPy is installed. Microseconds where there is no driver."""
    if not any(map(os.path.exists, _DEVICE)):
        return False
    from importlib.util import find_spec

    return find_spec("cupy") is not None
