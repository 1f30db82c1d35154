"""Several machines rented from one market: no two try an offer that is one machine, and the market is asked for once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest

from torpor.control.provision import ATTEMPTS, Demand, Market
from torpor.errors import MachineError
from torpor.plan.offers import Offer, Ranking, Wish
from torpor.settings import load


def _offer(number: int, *, single: bool) -> Offer:
    return Offer(kind="vast" if single else "gce", id=str(number), single=single)


def test_no_two_try_the_same_machine() -> None:
    """More of them than offers are tried for one, so that the last would find nothing but what the others took."""
    many = 4 * ATTEMPTS
    offers = [_offer(number, single=True) for number in range(many)]
    market, start = Market(Ranking(offers, []), {}), threading.Barrier(many)

    def take(_: int) -> list[Offer]:
        start.wait(20)
        return list(islice(market.untaken(), 1))

    with ThreadPoolExecutor(many) as pool:
        taken = [offer.id for found in pool.map(take, range(many)) for offer in found]
    assert sorted(taken) == sorted(offer.id for offer in offers)
    assert list(market.untaken()) == []


def test_what_can_be_had_many_times_is_offered_to_all() -> None:
    market = Market(Ranking([_offer(1, single=False), _offer(2, single=True)], []), {})
    assert [offer.id for offer in market.untaken()] == ["1", "2"]
    assert [offer.id for offer in market.untaken()] == ["1"]


def test_that_nobody_could_be_asked_is_told_to_all(tmp_path: Path) -> None:
    demand = Demand(load({"TORPOR_HOME": str(tmp_path)}), Wish(gpus=0))
    told = []
    for _ in range(2):
        with pytest.raises(MachineError, match="No offer could be asked for") as raised:
            demand.market()
        told.append(raised.value)
    assert told[0] is told[1]  # and nobody was asked again
