"""What a lease may end and what it may not, when things go wrong: the owner, the account, the label, the time, the way out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.emulators.vast.server import Vast
from tests.machines.office import HOUR, WISH, Office
from torpor.clock import FakeClock
from torpor.control import leases, places, provision
from torpor.control.provision import Limits
from torpor.errors import Interrupted, MachineError, TorporError
from torpor.events import Event
from torpor.machines.vast_papers import Drawer

# who took it out


def owned(office: Office, owner: str) -> None:
    for record in office.book.all():
        office.book._write(msgspec.structs.replace(record, owner=owner))


def test_a_home_that_two_computers_share(here: Office, vast: Vast) -> None:
    """Of a process of another computer, or of another container, nobody here knows whether it runs: its lease is waited for."""
    made = here.rent(lease=HOUR)
    (record,) = here.book.all()
    pid, started, computer, boot, namespace = record.owner.split(":")
    for owner in (f"{pid}:1:elsewhere:{boot}:{namespace}", f"{pid}:1:{computer}:{boot}:1"):
        owned(here, owner)
        assert [one.done for one in here.sweep()] == ["left"]
    owned(here, f"{pid}:{started}:{computer}:before:{namespace}")
    assert [one.done for one in here.sweep(dry_run=True)] == ["would end"], "this computer was started anew since"
    owned(here, f"{pid}:1:elsewhere:{boot}:{namespace}")
    here.clock.advance(made.lease.until - here.clock.now() + leases.GRACE + 1)
    assert [one.done for one in here.sweep()] == ["ended"]
    assert vast.service.billed() == []


def test_a_computer_that_does_not_tell_when_processes_began(here: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_started", lambda _: "")
    here.rent()
    assert [one.done for one in here.sweep()] == ["left"]
    owned(here, f"999999999:{leases._me().partition(':')[2]}")
    assert [one.done for one in here.sweep(dry_run=True)] == ["would end"]


# which account


def test_another_account_closes_no_record(here: Office, vast: Vast, tmp_path: Path, clock: FakeClock) -> None:
    """It sees no machine with the label, and that says nothing: the one that it was made with may go on billing it."""
    here.rent()
    here.die()
    with Vast(tmp_path / "other", clock=clock) as other:
        other.service.key = "another-key"
        there = Office(here.settings.home, other, clock)
        (found,) = there.sweep()
        assert (found.done, here.book.all()[0].phase) == ("failed", "made")
        assert "another account" in found.why
    assert [one.done for one in here.sweep()] == ["ended"]
    assert vast.service.billed() == []


def test_one_that_was_to_end_is_not_gone_because_another_account_does_not_see_it(here: Office, vast: Vast, clock: FakeClock) -> None:
    made = here.rent()
    rental = made.machine.status().rental
    drawer = Drawer(places.ground(here.settings, clock), made.machine.address.partition(":")[2])
    drawer.note(ending=rental, account="somebody else's")
    vast.service.instances.clear()
    assert made.machine.status().state == "missing"
    drawer.note(destroyed=rental)
    assert made.machine.status().state == "destroyed"


def test_a_record_that_can_not_be_read_stops_nothing(here: Office, vast: Vast) -> None:
    made = here.rent(lease=HOUR)
    for text in ("{", '{"id": 7}'):
        (here.settings.home / "leases" / f"{made.lease.id}.json").write_text(text)
        assert [one.done for one in here.sweep()] == ["left"]
    here.clock.advance(HOUR + leases.GRACE + 1)
    assert [one.done for one in here.sweep()] == ["ended"]
    assert vast.service.billed() == []


# whose it is


def test_a_machine_that_somebody_names_is_theirs(here: Office, elsewhere: Office, vast: Vast) -> None:
    """A wake died before it handed its machine over; somebody works on that machine by its address."""
    made = here.rent()
    here.die()
    for office in (elsewhere, here):
        assert leases.claim(office.settings, made.machine.address, office.clock) is (office is elsewhere)
    here.clock.advance(1000 * HOUR)
    for office in (here, elsewhere):
        assert [one.done for one in office.sweep()] == ["left"]
    assert vast.service.billed() == [made.lease.kept]
    assert [one.phase for one in here.book.all()] == ["kept"]


def test_what_has_no_lease_is_not_claimed(here: Office, vast: Vast) -> None:
    for address in ("local:box", "vast:4711"):
        assert leases.claim(here.settings, address, here.clock) is False
    made = here.rent()
    vast.service.instances[int(made.machine.address.partition(":")[2])].label = "mine"
    assert leases.claim(here.settings, made.machine.address, here.clock) is False
    assert vast.service.billed() == ["mine"]


def test_a_hand_over_that_was_told_to_have_failed(here: Office, vast: Vast) -> None:
    """The label says kept. It can't be ended any more, sweep leaves it, and whoever pays is told just that."""
    made = here.rent()
    made.provider.hand_over(made.machine.address, made.lease)
    said = provision.fail(here.settings, made, "the answer was lost", here.clock)
    assert "handed over" in said
    assert "sweep" not in said
    assert [one.phase for one in here.book.all()] == ["kept"]


def test_nothing_is_handed_over_once_its_lease_is_out(here: Office, vast: Vast) -> None:
    """Any computer's sweep may be ending it at this moment."""
    made = here.rent(lease=HOUR)
    here.clock.advance(HOUR + 1)
    with pytest.raises(MachineError, match="lease"):
        provision.keep(here.settings, made, here.clock)
    assert vast.service.billed() == [made.lease.label]


# ways out


def market(office: Office) -> provision.Market:
    return provision.market(office.settings, WISH, ("vast",), office.clock)


def test_a_disk_that_is_full_when_it_was_made(here: Office, vast: Vast, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(leases.Book, "made", full)
    with pytest.raises(OSError, match="No space"):
        here.rent()
    assert vast.service.billed() == []


@pytest.mark.parametrize("trouble", [Interrupted("stopped"), KeyboardInterrupt()], ids=["stopped", "signal"])
def test_stopped_and_not_to_be_ended(here: Office, vast: Vast, trouble: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever listens is told to stop, too, and can hear no more; what goes on costing is told all the same, by the error."""

    def stop(_: float) -> None:
        vast.service.stubborn.update(vast.service.instances)
        raise trouble

    def hear(event: Event) -> None:
        if vast.service.stubborn:
            raise trouble

    monkeypatch.setattr(leases, "end", _can_not)
    with pytest.raises(TorporError) as caught:
        provision.provision(here.settings, WISH, market(here), Limits(), hear, clock=here.clock, pause=stop)
    assert "may go on costing" in str(caught.value)
    assert trouble in (caught.value, caught.value.__cause__)
    assert len(vast.seen("create")) == 1, "no other offer is taken by a run that was stopped"


def test_an_end_that_fails_as_nobody_foresaw(here: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    made = here.rent()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Drawer, "write", full)
    said = provision.fail(here.settings, made, "it failed", here.clock)
    assert "may go on costing" in said
    assert made.machine.address in said


def _can_not(*_: object) -> None:
    raise MachineError("It can't be ended.")
