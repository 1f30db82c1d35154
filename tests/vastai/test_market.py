"""Renting at vast.ai when things go wrong there: one machine at most, and nothing left that costs."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from tests.emulators.vast.server import CUT, LOST, TOO_MANY_TEXT, Fault
from tests.vastai.desk import BID, WISH, Desk, identity
from torpor.access import Access
from torpor.errors import DestroyRefused, MachineError, MissingDependency, UsageError
from torpor.machines import table
from torpor.machines.base import Ambiguous, BidTooLow, Ground, OfferGone, Proof, Unused
from torpor.machines.lease import Lease
from torpor.machines.vast_errors import VastDenied, VastRefused, VastSilent
from torpor.machines.vast_market import VastProvider
from torpor.plan.offers import GB, Wish, rank


def test_what_is_asked_for(desk: Desk) -> None:
    """On demand, `price` is null: with a price it would be an interruptible one."""
    lease = desk.lease()
    desk.rent(lease=lease)
    body = desk.vast.seen("create")[0].body
    assert (body["price"], body["label"], body["disk"], body["runtype"]) == (None, lease.label, 32, "ssh_direc ssh_proxy")
    assert body["cancel_unavail"] is True
    assert body["image"] == "vastai/base-image:@vastai-automatic-tag"
    assert body["onstart"].startswith("touch ~/.no_auto_tmux\n")
    desk.rent(msgspec.structs.replace(BID, disk=100 * GB))
    body = desk.vast.seen("create")[1].body
    assert (body["price"], body["disk"]) == (pytest.approx(0.18 * 1.05, abs=0.02), 100)


def test_the_image_is_a_setting(desk: Desk) -> None:
    ground = Ground(desk.folder, Access(desk.vast.environment | {"VAST_IMAGE": "pytorch/pytorch:latest"}), desk.clock)
    VastProvider(ground, pause=desk.clock.advance, shown=desk.shown).rent(desk.offer(), desk.lease(), WISH, identity())
    assert desk.vast.seen("create")[0].body["image"] == "pytorch/pytorch:latest"


def test_offers_are_translated(desk: Desk) -> None:
    offer = next(offer for offer in desk.provider.offers(WISH) if offer.id == "7000002")
    assert (offer.kind, offer.gpu, offer.gpus, offer.country, offer.place) == ("vast", "RTX 4090", 1, "DE", "Bavaria, DE")
    assert offer.price == pytest.approx(0.38 + 32 * 0.15 / 720, abs=1e-6)
    assert (offer.down, offer.up, offer.disk, offer.disk_speed) == (900e6, 800e6, 500 * GB, 2500e6)
    assert (offer.hours, offer.reliability, offer.direct, offer.driver) == (720, 0.995, True, "580.95.05")
    assert offer.down_cost == pytest.approx(0.002 / GB)
    assert offer.gpu_bytes == 24564 << 20


def test_the_ranking_of_its_offers(desk: Desk) -> None:
    wish = Wish(gpu="rtx4090", region="eu", max_price=0.5)
    ranking = rank(wish, desk.provider.offers(wish))
    assert [offer.id for offer in ranking.best] == ["7000002", "7000003"]
    everywhere = rank(WISH, desk.provider.offers(WISH))
    assert [offer.id for offer in everywhere.best] == ["7000001", "7000002", "7000003"]
    assert {lost.offer.id: lost.why.partition(",")[0] for lost in everywhere.lost} == {
        "7000004": "it has no port of its own: all would go through a proxy that is slow and shared",
        "7000005": "its reliability is 0.810",
    }


def test_machines_without_a_gpu(desk: Desk) -> None:
    """How the search names them is written nowhere, so the filter is a setting."""
    wish = Wish(gpus=0)
    ranking = rank(wish, desk.provider.offers(wish))
    assert [offer.id for offer in ranking.best] == ["7000011"]
    assert desk.vast.requests[-1].body["resource_type"] == {"eq": "cpu"}
    other = Access(desk.vast.environment | {"VAST_CPU_FILTER": '{"num_gpus":{"eq":0}}'})
    VastProvider(Ground(desk.folder, other, desk.clock), pause=desk.clock.advance, shown=desk.shown).offers(wish)
    assert desk.vast.requests[-1].body["num_gpus"] == {"eq": 0}
    bad = Access(desk.vast.environment | {"VAST_CPU_FILTER": "cpu"})
    with pytest.raises(UsageError):
        VastProvider(Ground(desk.folder, bad, desk.clock)).offers(wish)


def test_junk_among_the_offers(desk: Desk) -> None:
    junk = [{}, {"id": "x"}, {"id": 5, "dph_total": "nan", "num_gpus": [1], "geolocation": 7}, 3, {"id": 5}]
    desk.vast.faults.add("search", (200, {"offers": [*junk, desk.vast.service.offers[7_000_001] | {"dph_total": 1}]}))
    offers = desk.provider.offers(WISH)
    assert [offer.id for offer in rank(WISH, offers).best] == ["7000001"]
    assert {offer.id for offer in offers} == {"5", "7000001"}


def test_an_answer_that_is_lost_is_looked_for(desk: Desk) -> None:
    lease = desk.lease()
    desk.vast.faults.add("create", LOST)
    desk.vast.faults.add("list", (502, ""), (502, ""), (502, ""), (502, ""))  # and the first look fails as well
    machine = desk.rent(lease=lease)
    assert desk.vast.service.billed() == [lease.label]
    assert len(desk.vast.seen("create")) == 1
    assert machine.wait_ready().state == "running"
    target = machine.access().ssh
    assert target is not None
    assert target.host_key, "it is pinned all the same"


def test_more_than_one_has_the_label(desk: Desk) -> None:
    """Something on the way has sent the request twice: one is kept."""
    lease = desk.lease()
    desk.vast.service.create(
        7_000_002, {"client_id": "me", "image": "ubuntu", "disk": 10, "env": {}, "label": lease.label, "price": None}
    )  # fmt: skip
    desk.vast.faults.add("create", LOST)
    machine = desk.rent(lease=lease)
    assert list(desk.vast.service.instances) == [int(machine.id)]


def test_nobody_can_tell(desk: Desk) -> None:
    desk.vast.faults.add("create", CUT)
    began = desk.clock.now()
    with pytest.raises(Ambiguous, match="sweep"):
        desk.rent()
    assert 60 <= desk.clock.now() - began < 120
    desk.vast.faults.add("create", LOST)
    desk.vast.faults.add("list", *[(502, "")] * 100)
    lease = desk.lease()
    with pytest.raises(Ambiguous):
        desk.rent(lease=lease)
    desk.vast.faults._next.clear()
    assert [one.label.id for one in desk.provider.rented()] == [lease.id], "sweep finds it"


REFUSALS: list[Fault] = [TOO_MANY_TEXT, (403, {"msg": "not permitted"}), (400, {"error": "invalid_args"}), (404, {}), (200, {"x": 1})]


@pytest.mark.parametrize("fault", REFUSALS, ids=["too many", "denied", "refused", "not there", "no list"])
def test_an_answer_that_is_lost_and_a_list_that_is_refused(desk: Desk, fault: Fault) -> None:
    """Something may live, whatever the list is refused for: nobody is told that nothing was done."""
    desk.vast.faults.add("create", LOST)
    desk.vast.faults.add("list", *[fault] * 1000)
    lease = desk.lease()
    with pytest.raises(Ambiguous, match="sweep") as caught:
        desk.rent(lease=lease)
    assert "Nothing was done" not in str(caught.value)
    desk.vast.faults._next.clear()
    assert [one.label.id for one in desk.provider.rented()] == [lease.id]


def test_an_answer_that_is_lost_and_a_list_that_is_refused_once(desk: Desk) -> None:
    desk.vast.faults.add("create", LOST)
    desk.vast.faults.add("list", (403, {"msg": "not permitted"}))
    assert desk.rent().wait_ready().state == "running"
    assert len(desk.vast.seen("create")) == 1


def test_the_service_is_not_there(desk: Desk) -> None:
    """Nothing can have been made, and it is said so at once."""
    offer, environment = desk.offer(), desk.vast.environment | {"VAST_URL": "http://127.0.0.1:9"}
    provider = VastProvider(Ground(desk.folder, Access(environment), desk.clock), pause=desk.clock.advance, shown=desk.shown)
    with pytest.raises(VastSilent, match="can't be reached"):
        provider.rent(offer, desk.lease(), WISH, identity())


def test_an_insufficient_bid_leaves_nothing(desk: Desk) -> None:
    """The refusal carries a machine: stopped, and its disk billed."""
    offer = msgspec.structs.replace(desk.offer(BID), bid=0.01)
    with pytest.raises(BidTooLow):
        desk.provider.rent(offer, desk.lease(), BID, identity())
    assert desk.vast.service.instances == {}
    assert len(desk.vast.seen("destroy")) == 1


def test_an_insufficient_bid_that_can_not_be_ended(desk: Desk) -> None:
    offer = msgspec.structs.replace(desk.offer(BID), bid=0.01)
    desk.vast.service.stubborn.update(range(12_345_000, 12_346_000))
    with pytest.raises(Ambiguous, match="STILL BILLED"):
        desk.provider.rent(offer, desk.lease(), BID, identity())


def test_a_refusal_that_carries_a_machine(desk: Desk) -> None:
    """Whatever the reason: what came of it is ended."""
    offer, lease = desk.offer(), desk.lease()
    _, made = desk.vast.service.create(
        7_000_002, {"client_id": "me", "image": "ubuntu", "disk": 10, "env": {}, "label": lease.label, "price": None}
    )  # fmt: skip
    desk.vast.faults.add("create", (400, made | {"success": False, "error": "spend_rate_limit", "msg": "slow down"}))
    with pytest.raises(VastRefused, match="slow down"):
        desk.provider.rent(offer, lease, WISH, identity())
    assert desk.vast.service.instances == {}


@pytest.mark.parametrize("how", [404, 410])
def test_an_offer_that_is_gone(desk: Desk, how: int) -> None:
    offer = desk.offer()
    if how == 410:
        desk.vast.service.take(int(offer.id))
    else:
        del desk.vast.service.offers[int(offer.id)]
    with pytest.raises(OfferGone):
        desk.provider.rent(offer, desk.lease(), WISH, identity())
    assert desk.vast.service.instances == {}


def test_a_key_that_can_not_be_attached(desk: Desk) -> None:
    """Nobody could log in, so it is ended at once."""
    desk.vast.faults.add("keys", (400, {"success": False, "error": "invalid_args", "msg": "no"}))
    with pytest.raises(VastRefused):
        desk.rent()
    assert desk.vast.service.instances == {}


def test_an_answer_without_a_number(desk: Desk) -> None:
    desk.vast.faults.add("create", (200, {"success": True}))
    with pytest.raises(Ambiguous):
        desk.rent()


def test_relabelled_is_looked_at(desk: Desk) -> None:
    """By its label a machine is swept or not: an answer of success is not enough."""
    lease = desk.lease()
    machine = desk.rent(lease=lease)
    desk.vast.faults.add("change", (200, {"success": True}))
    with pytest.raises(MachineError, match="did not relabel"):
        desk.provider.hand_over(machine.address, lease)
    desk.provider.hand_over(machine.address, lease)
    assert desk.vast.service.billed() == [lease.kept]


def test_a_lease_ends_no_machine_of_others(desk: Desk) -> None:
    machine = desk.running()
    for label in ("", "mine", f"torpor-{'0' * 12}-kept"):
        desk.vast.service.instances[int(machine.id)].label = label
        with pytest.raises(DestroyRefused):
            machine.destroy(Unused(machine.address, machine.rental, "lease", desk.clock.now() + 900))
    assert len(desk.vast.service.instances) == 1


@pytest.mark.parametrize("left", [1, 2])
def test_destroyed_at_the_second_try(desk: Desk, left: int) -> None:
    """It answers success and lives on, once; or the answer is lost."""
    machine = desk.running()
    fault = (200, {"success": True}) if left == 1 else (503, "busy")
    desk.vast.faults.add("destroy", *[fault] * left)
    assert machine.destroy(desk.proof(machine)).state == "destroyed"
    assert desk.vast.service.instances == {}


def test_one_word_is_not_enough(desk: Desk) -> None:
    """Asked for by number it is not there, and the list still has it: it lives."""
    machine = desk.running()
    proof = desk.proof(machine)
    desk.vast.service.stubborn.add(int(machine.id))
    desk.vast.faults.add("show", None, *[(200, {"instances": None})] * 500)
    with pytest.raises(MachineError, match="STILL BILLED"):
        machine.destroy(proof)


NOT_THERE: list[Fault] = [(200, {"instances": None}), (200, {"instances": []}), (404, {}), (410, {})]


@pytest.mark.parametrize("answer", NOT_THERE, ids=["null", "no list", "404", "410"])
@pytest.mark.parametrize("kind", [Proof, Unused])
def test_one_look_is_not_enough(desk: Desk, answer: Fault, kind: type[Proof]) -> None:
    """Asked for by number it is not there, once: it is destroyed all the same, and whoever ends it says so after that."""
    machine = desk.running()
    desk.vast.faults.add("show", answer, *[answer] * (kind is Unused))  # by a lease, its label is then read in the list
    assert machine.destroy(kind(machine.address, machine.rental, "it", desk.clock.now() + 900)).state == "destroyed"
    assert desk.vast.service.instances == {}


def test_a_lease_destroys_nothing_whose_label_it_can_not_read(desk: Desk) -> None:
    machine = desk.running()
    label = desk.vast.service.instances[int(machine.id)].label
    desk.vast.service.instances[int(machine.id)].label = f"{label.rpartition('-')[0]}-kept"
    desk.vast.faults.add("show", *[(200, {"instances": None})] * 500)
    permit = Unused(machine.address, machine.rental, "lease", desk.clock.now() + 900)
    with pytest.raises(DestroyRefused):
        machine.destroy(permit)
    desk.vast.faults.add("list", (200, {"instances": []}))
    with pytest.raises(DestroyRefused):
        machine.destroy(permit)
    assert desk.vast.seen("destroy") == []


def test_nobody_knows_whether_it_was_destroyed(desk: Desk) -> None:
    machine = desk.running()
    proof = desk.proof(machine)
    desk.vast.faults.add("destroy", LOST)
    desk.vast.faults.add("show", None, *[(502, "")] * 500)
    with pytest.raises(MachineError, match="MAY STILL BE BILLED"):
        machine.destroy(proof)
    desk.vast.faults._next.clear()
    desk.clock.advance(10_000)
    assert desk.look(machine).state == "destroyed"


def test_a_key_that_may_not_destroy(desk: Desk) -> None:
    machine = desk.running()
    desk.vast.faults.add("destroy", (403, {"success": False, "error": "auth_error", "msg": "not permitted"}))
    with pytest.raises(MachineError, match="not permitted"):
        machine.destroy(desk.proof(machine))
    assert desk.look(machine).state == "running"
    assert "told to end" in desk.look(machine).detail


def test_the_table(desk: Desk, tmp_path: Path) -> None:
    ground = desk.ground
    assert table.open_machine("vast:7/data", ground).address == "vast:7/data"
    assert isinstance(table.open_provider("vast", ground), VastProvider)
    with pytest.raises(VastDenied):
        table.open_provider("vast", Ground(tmp_path))
    assert "vast" in table.providers()


def test_without_its_package(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingDependency, match=r"torpor\[vast\]"):
        table.open_machine("vast:7", desk.ground)


def test_papers_hold_no_secret(desk: Desk) -> None:
    keys = identity()
    lease: Lease = desk.lease()
    machine = desk.provider.rent(desk.offer(), lease, WISH, keys)
    (papers,) = (desk.folder / "vast").iterdir()
    written = papers.read_text()
    assert json.loads(written)["host_key"] == keys.public
    assert "PRIVATE" not in written
    assert desk.vast.service.key not in written
    assert papers.name == f"{machine.id}.json"


def test_a_refusal_with_no_list_to_look_at(desk: Desk) -> None:
    """What was made by a bid that does not win is never adopted."""
    offer = msgspec.structs.replace(desk.offer(BID), bid=0.01)
    desk.vast.faults.add("list", None, *[(502, "")] * 4)
    with pytest.raises(Ambiguous):
        desk.provider.rent(offer, desk.lease(), BID, identity())
    assert desk.vast.service.instances == {}


def test_another_account_sees_nothing_of_it(desk: Desk) -> None:
    """That it is not there for one key says nothing of whether it lives."""
    machine = desk.running()
    proof = desk.proof(machine)
    living, desk.vast.service.instances = desk.vast.service.instances, {}
    desk.vast.service.key = "another"
    assert desk.look(machine).state == "missing"
    with pytest.raises(MachineError, match="MAY STILL BE BILLED"):
        desk.machine(machine.address).destroy(proof)
    desk.vast.service.instances = living


def test_sweep_sees_machines_whose_papers_are_damaged(desk: Desk) -> None:
    machine = desk.running()
    (desk.folder / "vast" / f"{machine.id}.json").write_text("{")
    assert [one.address for one in desk.provider.rented()] == [machine.address]
