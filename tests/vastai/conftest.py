"""One emulated service a test, without machines that anybody could log in to, by a clock that moves only when told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.vast.server import Vast
from tests.vastai.desk import Desk
from torpor.clock import FakeClock


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    clock = FakeClock()
    with Vast(tmp_path / "vast", clock=clock, boot=40.0) as vast:
        yield Desk(tmp_path / "machines", vast, clock)
