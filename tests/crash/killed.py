"""Runs `child.py`: whole, or until it kills itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.engine.lab import Lab
from torpor.remote.host import Subprocess
from torpor.storage.local import LocalStore

ROOT = Path(__file__).resolve().parents[2]


def open_lab(folder: Path) -> Lab:
    """A lab whose store is a folder, so that other processes see it."""
    return Lab(folder, store=LocalStore(str(folder / "store")))


def run(folder: Path, do: str, at: int = 0, *, after: bool = False, **job: str) -> list[str]:
    """The operations that it did; empty if it was killed at operation `at`, as it must be then."""
    text = json.dumps({"do": do, "lab": str(folder), "at": at, "after": after, **job})
    done = subprocess.run(_command(text), check=False, cwd=ROOT, env=_environment(), capture_output=True, timeout=120)
    if at:
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        return []
    assert done.returncode == 0, done.stderr.decode()
    log: list[str] = json.loads(done.stdout)
    return log


def host(at: int = 0, *, after: bool = False) -> Subprocess:
    """A host in a process of its own, that kills itself at its operation `at`."""
    return Subprocess(_command(json.dumps({"do": "serve", "at": at, "after": after})), _environment())


def _command(text: str) -> list[str]:
    return [sys.executable, "-m", "tests.crash.child", text]


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}


def spread(total: int, count: int, number: int) -> int:
    """Number `number` of `count` points spread over operations 1 … `total`, first and last among them."""
    return 1 + number * (total - 1) // (count - 1)
