"""A project of the emulator with a provider, offers and keys: what tests of Compute Engine begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.emulators.gce.server import PROJECT, Gce
from torpor.access import Access
from torpor.clock import FakeClock
from torpor.machines import lease as leases
from torpor.machines.base import Ground, HostIdentity, Machine, Proof
from torpor.machines.gce import GceMachine
from torpor.machines.gce_provider import GceProvider
from torpor.machines.lease import Lease
from torpor.plan.offers import Offer, Wish
from torpor.ssh import keys

ZONE = "us-central1-a"
SNAPSHOT = "20260801T120000000-0a1b2c3d"


class Field:
    """`settings` are added to the environment of what is made later."""

    def __init__(self, folder: Path, gce: Gce, clock: FakeClock) -> None:
        self.folder, self.gce, self.clock = folder, gce, clock
        self.settings: dict[str, str] = {}
        self.lease = leases.new(clock.now(), 3600)
        self.wish = Wish(gpus=0, interruptible=True)
        host, login = keys.make(), keys.make()
        self.login = login
        self.keys = HostIdentity(host.private, host.public, login.public)

    @property
    def ground(self) -> Ground:
        return Ground(self.folder / "machines", Access(self.gce.environment | self.settings), self.clock)

    @property
    def provider(self) -> GceProvider:
        return GceProvider(self.ground, self.clock.advance)

    @property
    def name(self) -> str:
        return f"torpor-{self.lease.id}"

    def offer(self, kind: str = "e2-medium/spot", zone: str = ZONE) -> Offer:
        return Offer(kind="gce", id=f"{zone}/{kind}", price=0.03)

    def rent(self, kind: str = "e2-medium/spot", zone: str = ZONE, lease: Lease | None = None) -> Machine:
        return self.provider.rent(self.offer(kind, zone), lease or self.lease, self.wish, self.keys)

    def machine(self, rest: str = "") -> GceMachine:
        return GceMachine(f"{PROJECT}/{ZONE}/{self.name}{rest}", self.ground, self.clock.advance)

    def proof(self, machine: Machine, **changes: Any) -> Proof:
        fields: dict[str, Any] = {
            "machine": machine.address,
            "rental": machine.status().rental,
            "snapshot": SNAPSHOT,
            "until": self.clock.now() + 900,
        }
        return Proof(**(fields | changes))

    @property
    def instance(self) -> dict[str, Any]:
        """The books' own entry, to look at and to change by hand."""
        return self.gce.service.instances[ZONE, self.name]

    @property
    def there(self) -> list[str]:
        """What is billed: instances, and disks that are left."""
        service = self.gce.service
        owned = {disk["source"] for found in service.instances.values() for disk in found["disks"]}
        return sorted([*(name for _, name in service.instances), *(disk.rpartition("/")[2] for disk in service.disks - owned)])
