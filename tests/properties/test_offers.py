"""Ranking offers: what must hold for any wish and any offers."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torpor.errors import UsageError
from torpor.plan import gpus, offers, regions
from torpor.plan.offers import GB, Offer, Wish, rank

NAMES = ["RTX 4090", "RTX 4090 D", "RTX 3090 Ti", "A100 SXM4", "A100 PCIE", "H100 NVL", "L4", ""]
COUNTRIES = ["US", "CA", "DE", "NO", "GB", "JP", "AU", ""]

some_offers = st.lists(
    st.builds(
        Offer,
        kind=st.sampled_from(["vast", "gce"]),
        id=st.integers(1, 10_000).map(str),
        gpu=st.sampled_from(NAMES),
        gpus=st.integers(0, 2),
        country=st.sampled_from(COUNTRIES),
        price=st.floats(0, 5, allow_nan=False).map(lambda price: round(price, 3)),
        interruptible=st.booleans(),
        down=st.sampled_from([0.0, 1e8, 5e8, 1e9, 1e10]),
        down_cost=st.sampled_from([0.0, 0.01 / GB, 0.1 / GB]),
        disk=st.integers(0, 2000).map(lambda size: size * GB),
        disk_speed=st.sampled_from([0.0, 2e8, 3e9]),
        hours=st.sampled_from([0.0, 1.0, 10.0, 1000.0]),
        reliability=st.floats(0.8, 1.0),
        direct=st.booleans(),
    ),
    max_size=25,
    unique_by=lambda offer: (offer.kind, offer.id),
)
some_wishes = st.builds(
    Wish,
    gpu=st.sampled_from(["", "rtx 4090", "RTX_4090", "a100", "A100 PCIE", "l4"]),
    gpus=st.integers(0, 2),
    region=st.sampled_from(["", "eu", "na", "US", "europe"]),
    max_price=st.sampled_from([0.0, 0.5, 2.0]),
    interruptible=st.booleans(),
    disk=st.sampled_from([0, 100 * GB, 1000 * GB]),
    down=st.sampled_from([0.0, 5e8]),
    reliability=st.sampled_from([0.0, 0.95]),
    fetch=st.sampled_from([0, 10 * GB, 1000 * GB]),
    spend=st.sampled_from([0.0, 0.0, 0.5, 5.0]),
)


@settings(max_examples=150, deadline=None)
@given(some_wishes, some_offers, st.randoms(use_true_random=False))
def test_ranking(wish: Wish, those: list[Offer], chance: random.Random) -> None:
    ranking = rank(wish, those)
    key = lambda offer: (offer.kind, offer.id)  # noqa: E731
    assert sorted(map(key, [*ranking.best, *(lost.offer for lost in ranking.lost)])) == sorted(map(key, those)), "each is judged once"
    assert all(lost.why for lost in ranking.lost)
    costs = [offers.cost(wish, offer) for offer in ranking.best]
    assert costs == sorted(costs)
    for offer in ranking.best:
        assert offer.gpus == wish.gpus
        assert offer.disk >= wish.disk
        assert offer.reliability >= wish.reliability
        assert offer.down >= wish.down
        assert 0 < offer.price <= (wish.max_price or offer.price)
        assert wish.interruptible or not offer.interruptible
        assert offers.lasts(wish, offer) >= 1
        assert not wish.region or offer.country in regions.countries(wish.region)
    shuffled = list(those)
    chance.shuffle(shuffled)
    assert rank(wish, shuffled) == ranking, "the order they came in says nothing"
    assert rank(wish, ranking.best).best == ranking.best
    assert rank(wish, ranking.best).lost == []


@settings(max_examples=100, deadline=None)
@given(some_wishes, some_offers)
def test_a_wish_for_less_loses_nobody(wish: Wish, those: list[Offer]) -> None:
    less = msgspec.structs.replace(wish, gpu="", region="", max_price=0.0, disk=0, down=0.0, reliability=0.0, interruptible=True, spend=0.0)
    assert set(map(repr, rank(wish, those).best)) <= set(map(repr, rank(less, those).best))


@settings(max_examples=100, deadline=None)
@given(some_wishes, some_offers, st.floats(0.01, 0.99))
def test_what_gets_cheaper_does_not_fall(wish: Wish, those: list[Offer], factor: float) -> None:
    best = rank(wish, those).best
    for place, offer in enumerate(best[:5]):
        cheaper = msgspec.structs.replace(offer, price=offer.price * factor)
        again = rank(wish, [cheaper if one is offer else one for one in those]).best
        assert again.index(cheaper) <= place


def test_a_slow_or_dear_download_counts() -> None:
    fast = Offer(kind="vast", id="2", gpu="L4", gpus=1, country="US", price=0.32, down=1e9, disk=100 * GB)
    slow = msgspec.structs.replace(fast, id="1", price=0.30, down=5e7)
    dear = msgspec.structs.replace(fast, id="3", price=0.30, down_cost=0.02 / GB)
    small, large = Wish(gpu="l4"), Wish(gpu="l4", fetch=500 * GB)
    assert [offer.id for offer in rank(small, [fast, slow, dear]).best] == ["1", "3", "2"]
    assert [offer.id for offer in rank(large, [fast, slow, dear]).best] == ["2", "1", "3"]
    assert offers.seconds(large, fast) == 4000


def test_what_may_be_spent_pays_for_the_download_first() -> None:
    offer = Offer(kind="vast", id="1", price=0.5, down_cost=0.01 / GB)
    assert offers.lasts(Wish(fetch=20 * GB, spend=1.2), offer) == pytest.approx(2 * 3600)
    assert offers.lasts(Wish(fetch=20 * GB, spend=0.1), offer) == 0
    assert offers.lasts(Wish(fetch=20 * GB), offer) == float("inf")


def test_why() -> None:
    good = Offer(kind="vast", id="1", gpu="RTX 4090", gpus=1, country="DE", price=0.4, down=1e9, disk=100 * GB, reliability=0.99)
    wish = Wish(gpu="rtx4090", region="eu", max_price=0.5, disk=50 * GB, down=5e8, fetch=50 * GB, spend=0.5)
    bent: dict[str, dict[str, Any]] = {
        "its GPU is RTX 4090 D": {"gpu": "RTX 4090 D"},
        "it has 2 GPUs, not 1 GPU": {"gpus": 2},
        "it can be interrupted": {"interruptible": True},
        "it is in US": {"country": "US"},
        "its country is not told": {"country": ""},
        "it costs $0.600 an hour, more than $0.500": {"price": 0.6},
        "its price is not told": {"price": 0.0},
        "the download alone costs $1.000, and $0.500 may be spent": {"down_cost": 0.02 / GB},
        "it has 40 GB of disk, 50 GB are needed": {"disk": 40 * GB},
        "it downloads 100 Mbit/s, less than 500": {"down": 1e8},
        "its reliability is 0.900, less than 0.950": {"reliability": 0.9},
        "it can be had for 2.0 hours only": {"hours": 2.0},
        "it has no port of its own: all would go through a proxy that is slow and shared": {"direct": False},
    }
    assert rank(wish, [good]).best == [good]
    for why, change in bent.items():
        (lost,) = rank(wish, [msgspec.structs.replace(good, **change)]).lost
        assert lost.why == why


@pytest.mark.parametrize(
    ("wanted", "offered", "expected"),
    [
        ("", "anything", True),
        ("RTX 4090", "RTX 4090", True),
        ("rtx_4090", "NVIDIA GeForce RTX 4090", True),
        ("4090", "RTX 4090", True),
        ("RTX4090", "RTX 4090 D", False),
        ("RTX 3080", "RTX 3080 Ti", False),
        ("3080ti", "RTX 3080 Ti", True),
        ("A100", "A100 SXM4", True),
        ("A100 PCIE", "A100 SXM4", False),
        ("nvidia-tesla-t4", "Tesla T4", True),
        ("A100", "A10", False),
        ("A6000", "RTX A6000", True),
        ("RTX 6000 Ada Generation", "RTX 6000Ada", True),
        ("H100 80GB", "NVIDIA H100 80GB HBM3", True),
        ("A100 40GB", "nvidia-a100-80gb", False),
        ("L40S", "L40", False),
    ],
)
def test_gpu_names(wanted: str, offered: str, expected: bool) -> None:
    assert gpus.fits(wanted, offered) is expected


def test_gpu_memory() -> None:
    assert gpus.fits("A100 80GB", "A100 SXM4", 81_920 << 20)
    assert not gpus.fits("A100 80GB", "A100 SXM4", 40_960 << 20)


@pytest.mark.parametrize("word", ["nowhere", "e", "USA", "U1", "eu-west-1"])
def test_no_region(word: str) -> None:
    with pytest.raises(UsageError):
        rank(Wish(region=word), [])


def test_regions() -> None:
    assert regions.countries("us") == {"US"}
    assert regions.countries("EU") < regions.countries("europe")
    assert "GB" not in regions.countries("eu")
    assert all(len(country) == 2 for group in regions.GROUPS.values() for country in group)
