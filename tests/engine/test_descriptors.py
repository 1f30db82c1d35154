"""Jobs run in long-lived processes too: whatever becomes of one, no descriptor and no thread of it is left."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.lab import Lab, write
from torpor.errors import Interrupted, TorporError
from torpor.events import Event
from torpor.testing import nasty
from torpor.testing.samples import noise

MIB = 1 << 20


def held() -> tuple[set[str], set[str]]:
    """Open files of this process, and its threads."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # the listing's own
            continue
    return found, {thread.name for thread in threading.enumerate()}


def interrupt_at(stage: str) -> Callable[[Event], None]:
    def listen(event: Event) -> None:
        if event.stage == stage and event.done > 0:
            raise Interrupted("asked for by the test")

    return listen


def fail_at(stage: str) -> Callable[[Event], None]:
    def listen(event: Event) -> None:
        if event.stage == stage and event.done > 0:
            raise OSError(5, "Input/output error")

    return listen


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filled")
    nasty.make(root / "in", ["names", "hardlinks", "holes"])
    for number in range(3):
        write(root / f"{number}", noise(14 * MIB, number))
    return root


@pytest.mark.parametrize("how", [interrupt_at, fail_at], ids=["interrupted", "failed"])
@pytest.mark.parametrize("stage", ["scan", "read", "compress", "upload"])
def test_snapshots(lab: Lab, filled: Path, stage: str, how: Callable[[str], Callable[[Event], None]]) -> None:
    lab.take(filled / "in")
    before = held()
    with pytest.raises(TorporError):
        lab.take(filled, listen=how(stage))
    assert held() == before
    lab.take(filled)
    assert held() == before


@pytest.mark.parametrize("how", [interrupt_at, fail_at], ids=["interrupted", "failed"])
@pytest.mark.parametrize("stage", ["download", "decompress", "write"])
def test_restores(lab: Lab, filled: Path, tmp_path: Path, stage: str, how: Callable[[str], Callable[[Event], None]]) -> None:
    lab.take(filled)
    before = held()

    with pytest.raises(TorporError):
        lab.restore(tmp_path / "out", listen=how(stage))
    assert held() == before
    lab.restore(tmp_path / "out")
    assert held() == before
