"""Jobs run in long-lived processes too: whatever becomes of one, no descriptor and no thread of it is left."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.lab import Lab, write
from torpor.control import catalogue, restores
from torpor.errors import Interrupted, TorporError
from torpor.events import Event, ignore
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


@pytest.fixture
def filled(root: Path) -> Path:
    nasty.make(root / "in", ["names", "hardlinks", "holes"])
    for number in range(4):
        write(root / f"{number}", noise(30 * MIB, number))
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

    def restore(listen: Callable[[Event], None]) -> None:
        found = catalogue.resolve(lab.repository, "latest")
        restores.restore(lab.repository, lab.host, found, os.fsencode(tmp_path / "out"), lab.state("b"), restores.Options(), listen)

    with pytest.raises(TorporError):
        restore(how(stage))
    assert held() == before
    restore(ignore)
    assert held() == before
