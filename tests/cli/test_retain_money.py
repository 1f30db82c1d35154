"""What retention says of money."""

from __future__ import annotations

import pytest

from torpor.cli import retain
from torpor.control.retain import Plan


def test_what_the_freed_bytes_cost_a_month() -> None:
    """By difference, so that a provider's least amount counts; nothing where no prices are known."""
    plan = Plan([], freed_bytes=200_000_000_000, kept_bytes=300_000_000_000)
    assert retain._money("r2", plan) == pytest.approx(3.0)
    assert retain._money("wasabi", plan) == 0  # a terabyte is paid for either way
    assert retain._money("local", plan) is None
