"""What everybody who rents machines out must do: `torpor.machines.base.Provider`, and what is billed afterwards.

A provider joins with a subclass that has ways to its service which do not use it: what the service bills, and how to make it fail.

    class TestMine(ProviderSuite):
        def provider(self) -> Provider: ...
        def billed(self) -> list[str]: ...
        def prepare(self, what: Trouble) -> None: ...
        …

`provider` returns a new handle each time, as another process would have one. Everything takes its time from `self.clock` and waits by
`self.clock.advance`, so that a deadline of minutes is tested in no time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import pytest

from torpor.clock import FakeClock
from torpor.errors import DestroyRefused, MachineError
from torpor.machines import lease as leases
from torpor.machines.base import Ambiguous, BidTooLow, HostIdentity, Machine, OfferGone, Proof, Provider, Rented, Status, Unused
from torpor.machines.lease import Label, Lease
from torpor.plan.offers import Offer, Wish

HOUR = 3600.0
BOOT = 600.0  # seconds by the clock in which a machine of the service boots
PATIENCE = 900.0  # seconds by the clock that one call may take, whatever the service does

Trouble = Literal[
    "lost answer",  # the machine is made, and the answer to the request lost
    "lost request",  # nothing is made, and no answer comes
    "broken",  # the service answers that it is broken; nothing is made
    "broken, made",  # the service answers that it is broken, and made the machine
    "gone",  # somebody else took the offer
    "low bid",  # the price does not win the machine
]
NOTHING_MADE: list[Trouble] = ["lost request", "broken", "gone", "low bid"]
MADE: list[Trouble] = ["lost answer", "broken, made"]


class ProviderSuite:
    clock: FakeClock
    tmp_path: Path
    wish = Wish()

    @abstractmethod
    def provider(self) -> Provider:
        """A handle of the one service of this test."""

    @abstractmethod
    def machine(self, address: str) -> Machine:
        """A new handle."""

    @abstractmethod
    def billed(self) -> list[str]:
        """The label of each machine, or part of one, that the account pays for now, by the service's own books."""

    @abstractmethod
    def prepare(self, what: Trouble) -> None:
        """What the service does to the next request to make a machine. A trouble that it can't have: what is nearest."""

    @abstractmethod
    def never_boots(self) -> None:
        """The next machine does not get to run, ever."""

    @abstractmethod
    def interrupt(self, address: str) -> None:
        """The service stops a machine of its own accord."""

    @abstractmethod
    def lives_on(self, address: str) -> None:
        """The service answers that it destroys this machine, and does not, until `obeys`."""

    @abstractmethod
    def obeys(self, address: str) -> None: ...

    @abstractmethod
    def stranger(self, label: str) -> None:
        """Make a machine with this label past torpor, as its owner would by hand; empty: without one."""

    def around(self) -> AbstractContextManager[object]:
        """What a test of this kind needs around it, such as a service; `self.clock` and `self.tmp_path` are there before."""
        return nullcontext()

    @pytest.fixture(autouse=True)
    def _prepare(self, tmp_path: Path) -> Iterator[None]:
        self.tmp_path = tmp_path
        self.clock = FakeClock()
        with self.around():
            yield

    def identity(self) -> HostIdentity:
        """Keys that fit each other, made anew."""
        from cryptography.hazmat.primitives import serialization as forms
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        host, login = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        private = host.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.OpenSSH, forms.NoEncryption()).decode()
        lines = [
            key.public_key().public_bytes(forms.Encoding.OpenSSH, forms.PublicFormat.OpenSSH).decode() for key in (host, login)
        ]  # fmt: skip
        return HostIdentity(private, lines[0], lines[1])

    def offer(self) -> Offer:
        return self.provider().offers(self.wish)[0]

    def lease(self) -> Lease:
        return leases.new(self.clock.now(), 4 * HOUR)

    def rent(self, lease: Lease) -> Machine:
        """In bounded time."""
        offer, began = self.offer(), self.clock.now()
        try:
            return self.provider().rent(offer, lease, self.wish, self.identity())
        finally:
            assert self.clock.now() - began <= PATIENCE

    def running(self, machine: Machine) -> Status:
        end = self.clock.now() + BOOT
        while machine.status().state == "starting" and self.clock.now() < end:
            self.clock.advance(10)
        return machine.status()

    def listed(self) -> list[Rented]:
        return list(self.provider().rented())

    def permit(self, machine: Machine, lease: Lease) -> Unused:
        return Unused(machine.address, machine.status().rental, f"lease {lease.id}", self.clock.now() + 900)

    # offers

    def test_offers(self) -> None:
        offers = self.provider().offers(self.wish)
        assert offers
        assert len({offer.id for offer in offers}) == len(offers)
        for offer in offers:
            assert offer.price > 0
            assert offer.disk >= 0
            assert 0 <= offer.reliability <= 1
            assert len(offer.country) in (0, 2)
        assert self.billed() == []

    # renting

    def test_rent(self) -> None:
        lease = self.lease()
        machine = self.rent(lease)
        assert self.billed() == [lease.label]
        status = self.running(machine)
        assert (status.address, status.state) == (machine.address, "running")
        assert status == self.machine(machine.address).status()
        assert len(status.rental) == 32
        assert int(status.rental, 16) >= 0
        assert status.price is None or status.price > 0
        access = machine.access()
        assert access.ssh is not None
        assert access == self.machine(machine.address).access()
        assert self.billed() == [lease.label]

    def test_the_host_key_is_pinned(self) -> None:
        offer, keys = self.offer(), self.identity()
        machine = self.provider().rent(offer, self.lease(), self.wish, keys)
        self.running(machine)
        for handle in (machine, self.machine(machine.address)):
            target = handle.access().ssh
            assert target is not None
            assert target.host_key == keys.public

    def test_no_private_key_is_kept_here(self) -> None:
        offer, keys = self.offer(), self.identity()
        machine = self.provider().rent(offer, self.lease(), self.wish, keys)
        body = keys.private.strip().splitlines()[1]
        assert not [path for path in self.tmp_path.rglob("*") if path.is_file() and body.encode() in path.read_bytes()]
        assert body not in repr(machine) + repr(keys) + repr(machine.status())

    @pytest.mark.parametrize("trouble", MADE)
    def test_an_answer_that_is_lost(self, trouble: Trouble) -> None:
        """Exactly one machine: adopted, or none at all, and the error says which."""
        lease = self.lease()
        self.prepare(trouble)
        try:
            machine = self.rent(lease)
        except Ambiguous:
            pytest.fail("the label settles it")
        except MachineError:
            assert self.billed() == []
            return
        assert self.billed() == [lease.label]
        assert self.running(machine).state == "running"
        assert [one.address for one in self.listed()] == [machine.address]

    @pytest.mark.parametrize("trouble", NOTHING_MADE)
    def test_what_was_not_made_is_not_billed(self, trouble: Trouble) -> None:
        self.prepare(trouble)
        with pytest.raises(MachineError) as caught:
            self.rent(self.lease())
        if trouble in ("gone", "low bid"):
            assert isinstance(caught.value, OfferGone if trouble == "gone" else (BidTooLow, OfferGone))
        assert self.billed() == []
        assert self.listed() == []

    @pytest.mark.parametrize("trouble", NOTHING_MADE)
    def test_the_next_one_works(self, trouble: Trouble) -> None:
        self.prepare(trouble)
        with pytest.raises(MachineError):
            self.rent(self.lease())
        lease = self.lease()
        assert self.running(self.rent(lease)).state == "running"
        assert self.billed() == [lease.label]

    def test_two_leases_are_two_machines(self) -> None:
        first, second = self.lease(), self.lease()
        machines = [self.rent(first), self.rent(second)]
        assert len({machine.address for machine in machines}) == 2
        assert len({machine.status().rental for machine in machines}) == 2
        assert sorted(self.billed()) == sorted([first.label, second.label])

    # what a crash leaves

    def test_orphans_are_found_by_label(self) -> None:
        lease = self.lease()
        address = self.rent(lease).address
        (found,) = self.listed()
        assert (found.address, found.label) == (address, Label(lease.id, lease.until))
        assert (found.status.address, found.status.rental) == (address, self.machine(address).status().rental)

    @pytest.mark.parametrize("label", ["", "mine", "torpor", "torpor-x", "torpor-0123456789ab-", "x-torpor-0123456789ab-kept"])
    def test_other_machines_of_the_account_are_not_torpors(self, label: str) -> None:
        self.stranger(label)
        assert self.listed() == []
        assert len(self.billed()) == 1

    def test_a_machine_that_was_handed_over(self) -> None:
        lease = self.lease()
        machine = self.rent(lease)
        self.running(machine)
        permit = self.permit(machine, lease)
        self.provider().hand_over(machine.address, lease)
        assert self.billed() == [lease.kept]
        (found,) = self.listed()
        assert found.label == Label(lease.id, None)
        for handle in (machine, self.machine(machine.address)):
            with pytest.raises(DestroyRefused):
                handle.destroy(permit)  # it was for a machine that nobody had
        assert machine.status().state == "running"
        self.provider().hand_over(machine.address, lease)  # again: no harm
        assert self.billed() == [lease.kept]

    def test_a_machine_that_was_not(self) -> None:
        lease = self.lease()
        machine = self.rent(lease)
        rental = machine.status().rental
        status = machine.destroy(self.permit(machine, lease))
        assert (status.state, status.rental) == ("destroyed", rental)
        assert self.billed() == []
        assert self.listed() == []

    # time

    def test_a_machine_that_never_boots(self) -> None:
        """It is never said to run, can't be reached, and can be ended."""
        self.never_boots()
        lease = self.lease()
        machine = self.rent(lease)
        for _ in range(30):
            assert machine.status().state != "running"
            self.clock.advance(60)
        with pytest.raises(MachineError):
            machine.access()
        began = self.clock.now()
        with pytest.raises(MachineError):
            machine.create()
        assert self.clock.now() - began <= PATIENCE
        assert self.billed() == [lease.label]
        assert machine.destroy(self.permit(machine, lease)).state == "destroyed"
        assert self.billed() == []

    # truth

    def test_an_interruption(self) -> None:
        lease = self.lease()
        machine = self.rent(lease)
        self.running(machine)
        self.interrupt(machine.address)
        for handle in (machine, self.machine(machine.address)):
            assert handle.status().state == "interrupted"
            with pytest.raises(MachineError):
                handle.access()
        assert [one.address for one in self.listed()] == [machine.address], "what is stopped costs, so it is listed"
        assert machine.destroy(self.permit(machine, lease)).state == "destroyed"
        assert self.billed() == []

    @pytest.mark.parametrize("how", ["unused", "proof"])
    def test_a_machine_that_lives_on(self, how: str) -> None:
        """The service says it is destroyed, and it is not: noticed, and told loudly."""
        lease = self.lease()
        machine = self.rent(lease)
        self.running(machine)
        address, rental = machine.address, machine.status().rental
        self.lives_on(address)

        def permit() -> Proof:
            kind = Unused if how == "unused" else Proof
            return kind(address, rental, "20260801T120000000-0a1b2c3d", self.clock.now() + 900)

        began = self.clock.now()
        with pytest.raises(MachineError, match=r"(?i)billed") as caught:
            machine.destroy(permit())
        assert address in str(caught.value)
        assert self.clock.now() - began <= PATIENCE
        for handle in (machine, self.machine(address)):
            assert handle.status().state != "destroyed"
        assert self.billed() == [lease.label]
        assert [one.address for one in self.listed()] == [address]
        self.obeys(address)
        assert self.machine(address).destroy(permit()).state == "destroyed"
        assert self.billed() == []
