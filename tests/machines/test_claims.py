"""A machine that is being ended because nobody had it, and that somebody takes meanwhile: one of the two gives way."""

from __future__ import annotations

from typing import Any

import pytest

from tests.emulators.vast.server import CUT, TOO_MANY_TEXT, Fault, Vast
from tests.machines.office import Office
from torpor.access import Access
from torpor.clock import FakeClock
from torpor.control import leases, places
from torpor.control.provision import Provisioned
from torpor.errors import DestroyRefused, MachineError
from torpor.machines.base import Ground
from torpor.machines.vast import VastMachine
from torpor.machines.vast_client import Pause
from torpor.machines.vast_errors import VastGone
from torpor.machines.vast_papers import Drawer


def number(made: Provisioned) -> str:
    return made.machine.address.partition(":")[2]


def sweeping(office: Office, made: Provisioned, pause: Pause, **changes: str) -> VastMachine:
    """The handle of whoever ends it."""
    ground = Ground(places.ground(office.settings, office.clock).folder, Access(office.vast.environment | changes), office.clock)
    return VastMachine(number(made), ground, pause=pause)


@pytest.mark.parametrize(
    "fault", [(503, "busy"), CUT, TOO_MANY_TEXT, (200, {"success": True})], ids=["broken", "silent", "too many", "a lie"]
)
def test_claimed_between_two_requests_to_end_it(here: Office, elsewhere: Office, vast: Vast, clock: FakeClock, fault: Fault) -> None:
    made = here.rent()
    vast.faults.add("destroy", fault)

    def pause(seconds: float) -> None:
        clock.advance(seconds)
        if vast.seen("destroy"):
            leases.claim(elsewhere.settings, made.machine.address, clock)

    machine = sweeping(here, made, pause)
    with pytest.raises(DestroyRefused):
        leases.end(machine, made.lease, clock)
    assert vast.service.billed() == [made.lease.kept]
    assert len(vast.seen("destroy")) == 1
    assert not machine.status().ending


def test_claimed_while_the_request_waits_for_its_turn(here: Office, elsewhere: Office, vast: Vast, clock: FakeClock) -> None:
    made = here.rent()
    papers = Drawer(places.ground(here.settings, clock), number(made))

    def pause(seconds: float) -> None:
        clock.advance(seconds)
        if papers.read().ending:
            leases.claim(elsewhere.settings, made.machine.address, clock)

    machine = sweeping(here, made, pause, VAST_PACE="1")
    with pytest.raises(VastGone):
        machine._client.destroy("1")  # another's, so that there is a turn to wait for
    with pytest.raises(DestroyRefused):
        leases.end(machine, made.lease, clock)
    assert vast.service.billed() == [made.lease.kept]


def test_a_proof_asks_for_no_label(here: Office, vast: Vast) -> None:
    """What its user hibernates is theirs, and goes."""
    made = here.rent()
    made.provider.hand_over(made.machine.address, made.lease)
    shown = len(vast.seen("show"))
    machine = sweeping(here, made, here.clock.advance)
    machine._client.destroy(machine.id)
    assert len(vast.seen("show")) == shown
    assert vast.service.billed() == []


def test_what_is_being_ended_here_is_not_claimed_here(here: Office, vast: Vast) -> None:
    made = here.rent()
    vast.service.stubborn.add(int(number(made)))
    machine = sweeping(here, made, here.clock.advance)
    with pytest.raises(MachineError, match="BILLED"):
        leases.end(machine, made.lease, here.clock)
    assert machine.status().ending
    with pytest.raises(MachineError, match="begun to end"):
        leases.claim(here.settings, made.machine.address, here.clock)
    assert vast.service.billed() == [made.lease.label]
    assert [one.phase for one in here.book.all()] == ["made"]


def test_an_end_that_begins_while_it_is_claimed_here(here: Office, vast: Vast, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever ends it has read the label before it was written: so nobody is told that the machine is theirs."""
    made = here.rent()
    papers = Drawer(places.ground(here.settings, here.clock), number(made))
    change = vast.service.change

    def meanwhile(instance: int, body: dict[str, Any]) -> Any:
        papers.note(ending=made.machine.status().rental)
        return change(instance, body)

    monkeypatch.setattr(vast.service, "change", meanwhile)
    with pytest.raises(MachineError, match="began to end"):
        leases.claim(here.settings, made.machine.address, here.clock)


def test_claimed_after_sweep_listed_it(here: Office, vast: Vast, monkeypatch: pytest.MonkeyPatch) -> None:
    made = here.rent()
    here.die()
    show = vast.service.show

    def meanwhile(instance: int) -> Any:
        vast.service.instances[instance].label = made.lease.kept
        return show(instance)

    monkeypatch.setattr(vast.service, "show", meanwhile)
    assert [(one.done, one.why) for one in here.sweep()] == [("left", "it was handed over just now")]
    assert vast.service.billed() == [made.lease.kept]
    assert [one.phase for one in here.book.all()] == ["kept"]
