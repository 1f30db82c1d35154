"""Somebody who rents at the emulated vast.ai."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.emulators.vast.server import Vast
from torpor.access import Access
from torpor.clock import FakeClock
from torpor.machines import lease as leases
from torpor.machines.base import Ground, HostIdentity, Proof, Status
from torpor.machines.lease import Lease
from torpor.machines.vast import Shown, VastMachine
from torpor.machines.vast_client import Client
from torpor.machines.vast_market import VastProvider
from torpor.plan.offers import Offer, Wish, rank
from torpor.ssh import keys, link

WISH = Wish(gpu="RTX 4090")
BID = Wish(gpu="RTX 4090", interruptible=True)


@dataclass
class Desk:
    folder: Path
    vast: Vast
    clock: FakeClock
    ssh: bool = False

    @property
    def shown(self) -> Shown:
        return link.shown if self.ssh else self.vast.shown

    @property
    def ground(self) -> Ground:
        return Ground(self.folder, self.vast.accounts, self.clock)

    @property
    def provider(self) -> VastProvider:
        return VastProvider(self.ground, pause=self.clock.advance, shown=self.shown)

    def client(self, **changes: str) -> Client:
        return Client(Access(self.vast.environment | changes), self.clock, self.clock.advance)

    def machine(self, address: str) -> VastMachine:
        return VastMachine(address.removeprefix("vast:"), self.ground, pause=self.clock.advance, shown=self.shown)

    def offer(self, wish: Wish = WISH) -> Offer:
        return rank(wish, self.provider.offers(wish)).best[0]

    def lease(self) -> Lease:
        return leases.new(self.clock.now(), 3600)

    def rent(self, wish: Wish = WISH, lease: Lease | None = None) -> VastMachine:
        return self.provider.rent(self.offer(wish), lease or self.lease(), wish, identity())

    def running(self, wish: Wish = WISH) -> VastMachine:
        machine = self.rent(wish)
        assert machine.wait_ready().state == "running"
        return machine

    def number(self, machine: VastMachine) -> int:
        return int(machine.id)

    def proof(self, machine: VastMachine) -> Proof:
        return Proof(machine.address, machine.rental, "20260801T120000000-0a1b2c3d", self.clock.now() + 900)

    def look(self, machine: VastMachine) -> Status:
        """As another process would see it."""
        return self.machine(machine.address).status()


def identity() -> HostIdentity:
    host = keys.make()
    return HostIdentity(host.private, host.public, keys.make().public)
