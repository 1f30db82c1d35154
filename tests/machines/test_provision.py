"""From a wish to a machine, and what becomes of it when nobody comes for it: leases, the next offer, sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulators.vast.server import Vast
from tests.machines.office import HOUR, WISH, Office
from torpor.clock import FakeClock
from torpor.control import leases, provision
from torpor.control.provision import Limits
from torpor.errors import DestroyRefused, Interrupted, MachineError, UsageError
from torpor.events import ignore
from torpor.machines import lease as labels
from torpor.machines.base import Ground, HostIdentity, Unused
from torpor.machines.lease import Lease
from torpor.machines.table import open_machine, open_provider
from torpor.plan.offers import GB, Wish
from torpor.settings import Settings


def test_a_machine_under_a_lease_until_it_is_handed_over(here: Office, vast: Vast) -> None:
    made = here.rent()
    assert vast.service.billed() == [made.lease.label]
    (record,) = here.book.all()
    assert (record.phase, record.address, record.kind) == ("made", made.machine.address, "vast")
    provision.keep(here.settings, made, here.clock)
    assert vast.service.billed() == [made.lease.kept]
    assert [one.phase for one in here.book.all()] == ["kept"]


def test_a_stop_is_noticed_between_two_looks(here: Office, vast: Vast) -> None:
    """The stop is noticed between two looks, the machine is destroyed again, and that is what people are told."""

    def stop(_: float) -> None:
        raise Interrupted("The run was stopped.", safe="The machine was left running.")

    market = provision.market(here.settings, WISH, ("vast",), here.clock)
    with pytest.raises(Interrupted) as caught:
        provision.provision(here.settings, WISH, market, Limits(), ignore, clock=here.clock, pause=stop)
    assert "nothing is left that costs" in caught.value.safe
    assert "left running" not in str(caught.value)
    assert vast.service.billed() == []
    assert [record.phase for record in here.book.all()] == ["ended"]


def test_who_can_not_be_asked_is_not_said_to_hold_nothing(elsewhere: Office, vast: Vast) -> None:
    """A key that vast.ai refuses: another computer has no record of a lease, and a machine may be there all the same."""
    vast.service.key += "x"
    (found,) = elsewhere.sweep()
    assert (found.address, found.done) == ("vast", "failed")
    assert "can't be asked" in found.why


def test_what_is_handed_over_is_never_swept(here: Office, elsewhere: Office, vast: Vast) -> None:
    made = here.rent()
    provision.keep(here.settings, made, here.clock)
    here.die()
    here.clock.advance(1000 * HOUR)
    for office in (here, elsewhere):
        (found,) = office.sweep()
        assert (found.address, found.done) == (made.machine.address, "left")
    with pytest.raises(DestroyRefused):
        leases.end(made.machine, made.lease, here.clock)
    assert len(vast.service.billed()) == 1


def test_a_crash_that_fell_between_label_and_record(here: Office, elsewhere: Office, vast: Vast) -> None:
    """The label says that it was handed over, the record does not yet: it is left."""
    made = here.rent()
    made.provider.hand_over(made.machine.address, made.lease)
    here.die()
    here.clock.advance(1000 * HOUR)
    for office in (here, elsewhere):
        assert [one.done for one in office.sweep()] == ["left"]
    assert len(vast.service.billed()) == 1


def test_what_a_crash_left_is_ended_here_at_once(here: Office, vast: Vast) -> None:
    made = here.rent()
    assert [(one.done, one.why) for one in here.sweep()] == [("left", "it is being made ready now")]
    here.die()
    (found,) = here.sweep(dry_run=True)
    assert (found.done, found.address) == ("would end", made.machine.address)
    assert found.price is not None
    assert len(vast.service.billed()) == 1
    assert [one.done for one in here.sweep()] == ["ended"]
    assert vast.service.billed() == []
    assert [one.phase for one in here.book.all()] == ["ended"]
    assert here.sweep() == []


def test_elsewhere_it_is_ended_once_its_lease_is_out(here: Office, elsewhere: Office, vast: Vast) -> None:
    made = here.rent(lease=HOUR)
    here.die()
    assert [one.done for one in elsewhere.sweep()] == ["left"]
    here.clock.advance(made.lease.until - here.clock.now() + leases.GRACE)
    assert [one.done for one in elsewhere.sweep()] == ["left"]
    here.clock.advance(1)
    assert [one.done for one in elsewhere.sweep()] == ["ended"]
    assert vast.service.billed() == []


def test_a_record_without_a_machine(here: Office) -> None:
    """It crashed before anything was made."""
    here.book.take_out("vast", HOUR)
    here.die()
    assert here.sweep(dry_run=True) == []
    assert [one.phase for one in here.book.all()] == ["intended"]  # which another look, with another account, may need
    assert here.sweep() == []
    assert [(one.phase, one.why) for one in here.book.all()] == [("ended", "no machine has its label")]


def test_other_machines_of_the_account_are_nobodys_business(here: Office, vast: Vast) -> None:
    made = here.rent()
    number = int(made.machine.address.partition(":")[2])
    vast.service.instances[number].label = "torpor-is-nice"
    here.die()
    here.clock.advance(1000 * HOUR)
    assert here.sweep() == []
    assert len(vast.service.billed()) == 1


def test_one_that_can_not_be_ended_is_said(here: Office, vast: Vast) -> None:
    made = here.rent()
    vast.service.stubborn.add(int(made.machine.address.partition(":")[2]))
    here.die()

    ground = Ground(here.settings.home / "machines", vast.accounts, here.clock)
    machine = open_machine(made.machine.address, ground)
    machine._pause = here.clock.advance  # type: ignore[attr-defined]
    with pytest.raises(MachineError, match="BILLED"):
        leases.end(machine, made.lease, here.clock)
    assert [record.phase for record in here.book.all()] == ["made"]


def test_the_next_offer_when_the_first_is_gone(here: Office, vast: Vast) -> None:
    market = provision.market(here.settings, WISH, ("vast",), here.clock)
    first, second = market.ranking.best[:2]
    vast.service.take(int(first.id))
    made = provision.provision(here.settings, WISH, market, Limits(), ignore, clock=here.clock, pause=here.clock.advance)
    assert made.offer == second
    assert len(made.tried) == 1
    assert len(vast.service.billed()) == 1


@pytest.mark.parametrize("trouble", ["never", "scheduling", "oci"])
def test_the_next_offer_when_the_first_never_boots(here: Office, vast: Vast, trouble: str) -> None:
    vast.service.next_trouble = trouble  # type: ignore[assignment]
    made = here.rent(boot=300.0)
    assert len(made.tried) == 1
    assert vast.service.billed() == [made.lease.label]
    assert [one.phase for one in here.book.all()] == ["ended", "made"]


def test_no_offer_works_out(here: Office, vast: Vast) -> None:
    market = provision.market(here.settings, WISH, ("vast",), here.clock)
    for offer in market.ranking.best:
        vast.service.take(int(offer.id))
    with pytest.raises(MachineError, match="None of"):
        provision.provision(here.settings, WISH, market, Limits(), ignore, clock=here.clock, pause=here.clock.advance)
    assert vast.service.billed() == []
    assert {one.phase for one in here.book.all()} == {"ended"}


def test_nothing_fits(here: Office, vast: Vast) -> None:
    wish = Wish(gpu="RTX 4090", max_price=0.001)
    market = provision.market(here.settings, wish, ("vast",), here.clock)
    with pytest.raises(MachineError, match=r"No offer fits.*more than \$0.001"):
        provision.provision(here.settings, wish, market, Limits(), ignore, clock=here.clock, pause=here.clock.advance)
    assert here.book.all() == []
    assert vast.seen("create") == []


def test_stopped_while_it_boots(here: Office, vast: Vast) -> None:
    """Ctrl-C: the machine does not go on costing."""
    market = provision.market(here.settings, WISH, ("vast",), here.clock)

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        provision.provision(here.settings, WISH, market, Limits(), ignore, clock=here.clock, pause=stop)
    assert vast.service.billed() == []


def test_without_an_account(tmp_path: Path, clock: FakeClock) -> None:
    settings = Settings(home=tmp_path, storage="memory:")
    with pytest.raises(MachineError, match="VAST_API_KEY"):
        provision.market(settings, WISH, (), clock)
    with pytest.raises(UsageError):
        open_provider("local", Ground(tmp_path))


def test_who_was_asked_and_has_nothing_is_no_missing_account(here: Office, vast: Vast) -> None:
    """Of the two providers one has no account here; the other has been asked."""
    vast.service.offers.clear()
    market = provision.market(here.settings, WISH, (), here.clock)
    with pytest.raises(MachineError, match="No offer fits; gce could not be asked: "):
        provision.provision(here.settings, WISH, market, Limits(), ignore, clock=here.clock, pause=here.clock.advance)


def test_a_region_that_is_none_is_told_before_anybody_is_asked(here: Office, vast: Vast) -> None:
    with pytest.raises(UsageError, match="'mars' is no region"):
        provision.market(here.settings, Wish(gpu="RTX 4090", region="mars"), (), here.clock)
    assert vast.requests == []


@pytest.mark.parametrize("spend", [0.0, 0.2, 100.0], ids=["no cap", "cap", "lease"])
def test_what_may_be_spent_is_in_the_label(here: Office, elsewhere: Office, vast: Vast, spend: float) -> None:
    """By the hour, and for each byte that is fetched. It holds when the process that rented it is gone, and on other computers."""
    wish = Wish(gpu="RTX 4090", fetch=50 * GB, spend=spend)
    began = here.clock.now()
    market = provision.market(here.settings, wish, ("vast",), here.clock)
    made = provision.provision(here.settings, wish, market, Limits(), ignore, clock=here.clock, pause=here.clock.advance)
    paid = (spend - 50 * 0.002) / made.offer.price * HOUR
    assert made.offer.down_cost * GB == pytest.approx(0.002)
    assert made.deadline == made.lease.until
    assert made.lease.until - began == pytest.approx(paid if spend == 0.2 else 4 * HOUR, abs=1)
    assert vast.service.billed() == [made.lease.label]
    here.clock.advance(made.lease.until - here.clock.now() + leases.GRACE + 1)
    assert [one.done for one in elsewhere.sweep()] == ["ended"]
    assert vast.service.billed() == []


def test_nothing_is_handed_over_once_its_money_is_spent(here: Office, vast: Vast) -> None:
    wish = Wish(gpu="RTX 4090", spend=0.1)
    market = provision.market(here.settings, wish, ("vast",), here.clock)
    made = provision.provision(here.settings, wish, market, Limits(), ignore, clock=here.clock, pause=here.clock.advance)
    here.clock.advance(0.1 / made.offer.price * HOUR)
    with pytest.raises(MachineError, match="lease"):
        provision.keep(here.settings, made, here.clock)


def test_a_download_that_costs_more_than_may_be_spent(here: Office, vast: Vast) -> None:
    wish = Wish(gpu="RTX 4090", fetch=50 * GB, spend=0.1)
    market = provision.market(here.settings, wish, ("vast",), here.clock)
    with pytest.raises(MachineError, match=r"the download alone costs \$0.100, and \$0.100 may be spent"):
        provision.provision(here.settings, wish, market, Limits(), ignore, clock=here.clock, pause=here.clock.advance)
    assert vast.seen("create") == []


@pytest.mark.parametrize(
    "text", ["", "torpor-", "torpor-0123456789ab-", "torpor-0123456789ab-x", "torpor-0123456789AB-1", "x-0123456789ab-1"]
)
def test_labels_that_are_not_ours(text: str) -> None:
    assert labels.parse(text) is None


def test_labels() -> None:
    lease = Lease(id="0123456789ab", until=1_800_000_000)
    for text, until in ((lease.label, 1_800_000_000), (lease.kept, None)):
        found = labels.parse(text)
        assert found is not None
        assert (found.id, found.until) == (lease.id, until)


def test_permissions_and_keys_do_not_print() -> None:
    assert "PRIVATE" not in repr(HostIdentity("-----BEGIN PRIVATE", "ssh-ed25519 A", "x"))
    assert Unused("vast:1", "r", "s", 1.0).machine == "vast:1"
