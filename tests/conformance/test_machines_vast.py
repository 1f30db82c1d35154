"""vast.ai's row, held to the shipped suites against the emulator; and what only vast.ai can do wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.emulators.vast.boxes import FolderBox
from tests.emulators.vast.server import CUT, LOST, Fault, Vast
from torpor.clock import FakeClock
from torpor.machines import lease as leases
from torpor.machines.base import Ground, HostIdentity, Machine
from torpor.machines.vast import VastMachine
from torpor.machines.vast_market import VastProvider
from torpor.plan.offers import Wish
from torpor.testing.machine_suite import MachineSuite
from torpor.testing.provider_suite import ProviderSuite, Trouble

BOOT = 40.0


class World:
    """A service for each test, and handles that share nothing but the folder of papers."""

    clock: FakeClock
    tmp_path: Path
    vast: Vast
    wish = Wish(gpu="RTX 4090")

    @contextmanager
    def around(self) -> Iterator[None]:
        self.ids: dict[str, str] = {}
        with Vast(self.tmp_path / "vast", clock=self.clock, boot=BOOT) as self.vast:
            yield

    @property
    def ground(self) -> Ground:
        return Ground(self.tmp_path / "machines", self.vast.accounts, self.clock)

    def provider(self) -> VastProvider:
        return VastProvider(self.ground, pause=self.clock.advance, shown=self.vast.shown)

    def handle(self, address: str) -> VastMachine:
        return VastMachine(address.removeprefix("vast:"), self.ground, pause=self.clock.advance, shown=self.vast.shown)

    def rented(self, wish: Wish | None = None) -> VastMachine:
        """A machine that runs."""
        wish = wish or self.wish
        offer = self.provider().offers(wish)[0]
        made = self.provider().rent(offer, leases.new(self.clock.now(), 3600), wish, self.identity())
        assert made.wait_ready().state == "running"
        return made

    def identity(self) -> HostIdentity:
        return ProviderSuite.identity(self)  # type: ignore[arg-type]  # it uses nothing of its suite

    def number(self, address: str) -> int:
        return int(address.partition(":")[2].partition("/")[0])

    def workspace(self, machine: Machine) -> Path:
        box = self.vast.service.instances[self.number(machine.address)].box
        assert isinstance(box, FolderBox)
        return box.workspace


class TestVast(World, MachineSuite):
    """`vast`"""

    def make(self, name: str) -> VastMachine:
        return self.handle(self.named(name))

    def born(self, name: str) -> VastMachine:
        made = self.rented()
        self.ids[name] = str(self.number(made.address))
        return self.make(name)

    def named(self, name: str) -> str:
        return self.ids.get(name, {"gpu-1": "991", "gpu-2": "992"}.get(name, name))

    def fill(self, machine: Machine) -> None:
        (self.workspace(machine) / "file").write_bytes(b"work of weeks")

    def filled(self, machine: Machine) -> bool:
        return (self.workspace(machine) / "file").exists()

    def leftovers(self, name: str) -> list[str]:
        return [str(number) for number in self.vast.service.instances if str(number) == self.ids.get(name)]


class TestVastProvider(World, ProviderSuite):
    """`vast`"""

    wish = Wish(gpu="RTX 4090", interruptible=True)

    def provider(self) -> VastProvider:
        return World.provider(self)

    def machine(self, address: str) -> VastMachine:
        return self.handle(address)

    def billed(self) -> list[str]:
        return self.vast.service.billed()

    def prepare(self, what: Trouble) -> None:
        if what == "low bid":
            # the price rises between the search and the bid
            self.vast.faults.add("search", (200, {"offers": [self.vast.service.offers[7_000_001] | {"min_bid": 0.1, "dph_total": 0.2}]}))
        elif what == "gone":
            self.vast.faults.add("search", (200, {"offers": [self.vast.service.offers[7_000_001] | {"dph_total": 0.2}]}))
            self.vast.service.take(7_000_001)
        elif what == "broken, made":
            self.vast.faults.add("create", LOST)
        else:
            faults: dict[str, Fault] = {"lost answer": LOST, "lost request": CUT, "broken": (502, "<html>Bad Gateway</html>")}
            self.vast.faults.add("create", faults[what])

    def never_boots(self) -> None:
        self.vast.service.next_trouble = "never"

    def interrupt(self, address: str) -> None:
        self.vast.service.outbid(self.number(address))

    def lives_on(self, address: str) -> None:
        self.vast.service.stubborn.add(self.number(address))

    def obeys(self, address: str) -> None:
        self.vast.service.stubborn.clear()

    def stranger(self, label: str) -> None:
        body = {"client_id": "me", "image": "ubuntu", "disk": 10, "env": {}, "label": label or None, "price": None}
        status, _ = self.vast.service.create(7_000_002, body)
        assert status == 200
