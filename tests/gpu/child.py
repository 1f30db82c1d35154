"""How the process of the GPU is started with a CPU in its place."""

from __future__ import annotations

import sys
from pathlib import Path


def command(library: Path, fault: str = "none", after: int = 0) -> list[str]:
    """`fault`: one of shim_child.py's, from batch number `after` on."""
    return [sys.executable, str(Path(__file__).with_name("shim_child.py")), str(library), fault, str(after)]
