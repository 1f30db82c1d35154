"""The emulated vast.ai, and two computers that rent there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.vast.server import Vast
from tests.machines.office import Office
from torpor.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def vast(tmp_path: Path, clock: FakeClock) -> Iterator[Vast]:
    with Vast(tmp_path / "vast", clock=clock, boot=20.0, ssh=True) as found:
        yield found


@pytest.fixture
def here(tmp_path: Path, vast: Vast, clock: FakeClock) -> Office:
    return Office(tmp_path / "here", vast, clock)


@pytest.fixture
def elsewhere(tmp_path: Path, vast: Vast, clock: FakeClock) -> Office:
    return Office(tmp_path / "elsewhere", vast, clock)
