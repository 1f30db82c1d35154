from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulators.b2 import B2
from torpor.clock import FakeClock


@pytest.fixture
def b2() -> Iterator[B2]:
    with B2() as found:
        yield found


@pytest.fixture
def b2_later() -> Iterator[tuple[B2, FakeClock]]:
    """A service whose keys and tokens age by hand."""
    clock = FakeClock()
    with B2(clock) as found:
        yield found, clock
