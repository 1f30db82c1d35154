from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.cli.amounts import money
from torpor.plan import costs
from torpor.plan.prices import PRICES, Price

GB = 10**9
PLAIN = Price("plain", "Plain", month=0.02, egress=0.1, put=5.0, get=0.4, as_of="2026-01", source="made up")


def near(amount: float) -> object:
    return pytest.approx(amount, rel=1e-9)


@pytest.mark.parametrize("name", PRICES)
def test_every_price_has_a_date_a_source_and_sane_figures(name: str) -> None:
    price = PRICES[name]
    assert price.provider == name
    assert re.fullmatch(r"20\d\d-\d\d(-\d\d)?", price.as_of)
    assert price.source
    assert 0.001 < price.month < 0.1
    assert 0 <= price.egress < 0.2
    assert 0 <= price.get <= price.put or price.put == 0
    assert set(price.uncertain) <= set(Price._fields)


@pytest.mark.parametrize(
    ("name", "month", "wake"),
    [
        # 500 GB for a month, and one read of it all over the internet: sums by hand.
        ("r2", 500 * 0.015, 0.36 * 59_609 / 1e6),
        ("b2", 500 * 0.006, 0.4 * 59_609 / 1e6),
        ("aws", 500 * 0.023, 400 * 0.09 + 0.4 * 59_609 / 1e6),
        ("gcs", 500 * 0.02, 500 * 0.12 + 0.4 * 59_609 / 1e6),
        ("wasabi", 1000 * 0.00799, 0.0),  # a TB at least
    ],
)
def test_half_a_terabyte(name: str, month: float, wake: float) -> None:
    assert -(-500 * GB // (8 << 20)) + 4 == 59_609
    assert costs.asleep(PRICES[name], 500 * GB) == near(month)
    assert costs.waking(PRICES[name], 500 * GB, 500 * GB) == near(wake)


def test_what_is_free_to_read_counts_for_a_whole_month() -> None:
    b2 = PRICES["b2"]._replace(get=0.0)
    assert costs.waking(b2, 100 * GB, 100 * GB, 3) == 0
    assert costs.waking(b2, 100 * GB, 100 * GB, 5) == near(2 * 100 * 0.01)
    aws = PRICES["aws"]._replace(get=0.0)
    assert costs.waking(aws, 60 * GB, 60 * GB, 1) == 0
    assert costs.waking(aws, 60 * GB, 60 * GB, 2) == near(20 * 0.09)


def test_what_is_deleted_too_soon_is_paid_for_all_the_same() -> None:
    wasabi = PRICES["wasabi"]
    assert costs.keeping(wasabi, 2000 * GB, 1) == costs.keeping(wasabi, 2000 * GB, 90) == near(3 * 2000 * 0.00799)
    assert costs.keeping(wasabi, 2000 * GB, 120) == near(4 * 2000 * 0.00799)
    assert costs.keeping(wasabi, 1, 120) == near(4 * 1000 * 0.00799)
    assert costs.keeping(PLAIN, 2000 * GB, 3) == near(0.1 * 2000 * 0.02)
    assert costs.taking(wasabi, 10 * GB) == near(10 * 0.00799 * 3)


def test_taking_a_snapshot() -> None:
    assert costs.taking(PLAIN, 0) == near(4 * 5 / 1e6)
    assert costs.taking(PLAIN, (32 << 20) + 1) == near(6 * 5 / 1e6)


@given(st.integers(0, 10**15), st.integers(0, 10**14), st.integers(0, 20))
def test_comparing(stored: int, read: int, wakes: int) -> None:
    bills = costs.compare(stored, read, wakes)
    assert {bill.price.provider for bill in bills} == set(PRICES)
    assert [bill.total for bill in bills] == sorted(bill.total for bill in bills)
    assert all(bill.storage >= 0 and bill.reading >= 0 for bill in bills)


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=9))
def test_shares_add_up(parts: list[int]) -> None:
    for price in PRICES.values():
        total = sum(parts)
        shares = sum(costs.share(price, part, total) for part in parts)
        assert shares == (near(costs.asleep(price, total)) if total else 0)


def test_money() -> None:
    assert [money(amount) for amount in (0, 0.00001, 0.0123, 0.5, 1, 1234.567)] == [
        "$0",
        "<$0.0001",
        "$0.0123",
        "$0.5000",
        "$1.00",
        "$1,234.57",
    ]
