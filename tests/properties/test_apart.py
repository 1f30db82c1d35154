"""Large files' units are spread over threads: nothing is lost, and threads that take turns work far from each other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torpor.plan.fetch import Unit, apart


@given(st.integers(0, 200), st.integers(1, 64))
def test_every_unit_once_and_neighbours_apart(count: int, lanes: int) -> None:
    units = [Unit(3, 0, number, 1, []) for number in range(count)]
    spread = apart(units, lanes)
    assert sorted(spread) == units
    step = -(-count // lanes)
    for one, two in zip(spread, spread[1:], strict=False):
        assert two.start - one.start == step or two.start < one.start  # the next lane, or the first one's next unit
