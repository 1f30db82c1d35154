"""Google Compute Engine, by Google's own client against an emulator, held to the shipped suites of machines and of those who rent them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.emulators.gce.hosts import Folders
from tests.emulators.gce.server import BROKEN, CUT, LOST, PROJECT, Fault, Gce
from tests.emulators.gce.service import LIES
from tests.emulators.gce.shapes import Fails, Refusal
from torpor.access import Access
from torpor.machines.base import Ground, HostIdentity, Machine, Provider
from torpor.machines.gce import GceMachine
from torpor.machines.gce_client import TRIES
from torpor.machines.gce_provider import GceProvider
from torpor.plan.offers import Wish
from torpor.ssh import keys
from torpor.testing.machine_suite import BAD_NAMES, MachineSuite
from torpor.testing.provider_suite import ProviderSuite, Trouble

ZONE = "us-central1-a"
GENERAL = [name for name in BAD_NAMES if name != "a/b"]  # a path begins at a slash
BROKE = Refusal(503, "backendError", "Internal error. Please try again.")


def request(name: str) -> dict[str, object]:
    """An instance as somebody else makes one."""
    return {
        "name": name,
        "machineType": f"zones/{ZONE}/machineTypes/e2-medium",
        "metadata": {"items": [{"key": "torpor-disk-type", "value": "pd-balanced"}]},
        "disks": [
            {
                "boot": True,
                "autoDelete": True,
                "initializeParams": {
                    "diskSizeGb": "100",
                    "diskType": f"zones/{ZONE}/diskTypes/pd-balanced",
                    "sourceImage": "projects/debian-cloud/global/images/family/debian-13",
                },
            }
        ],
        "networkInterfaces": [{"network": "global/networks/default", "accessConfigs": [{"type": "ONE_TO_ONE_NAT"}]}],
    }


def make(gce: Gce, name: str) -> None:
    """Made past torpor, and running."""
    with gce.service.lock:
        made = gce.service.insert(ZONE, dict(request(name)), "", None)
        while made["status"] != "DONE":
            gce.service.wait(ZONE, made["name"])


class TestGce(MachineSuite):
    @contextmanager
    def around(self) -> Iterator[None]:
        with Gce(self.clock, Folders(self.tmp_path / "hosts")) as self.gce:
            yield

    def make(self, name: str) -> Machine:
        ground = Ground(self.tmp_path / "machines", Access(self.gce.environment), self.clock)
        return GceMachine(self.named(name), ground, self.clock.advance)

    @pytest.mark.parametrize("name", [*GENERAL, "Gpu-1", "1gpu", "gpu_1", "gpu-", "gpu.1", "x" * 64], ids=ascii)
    def test_bad_names(self, name: str) -> None:
        """Google's rules are narrower. A slash is none of a name: a path begins there."""
        super().test_bad_names(name)

    def named(self, name: str) -> str:
        return f"{PROJECT}/{ZONE}/{name}"

    def born(self, name: str) -> Machine:
        make(self.gce, name)
        return self.make(name)

    def folder(self, machine: Machine) -> Path:
        found = self.gce.service.instances[ZONE, machine.address.rpartition("/")[2]]
        return self.tmp_path / "hosts" / str(found["id"])

    def fill(self, machine: Machine) -> None:
        (self.folder(machine) / "file").write_bytes(b"work of weeks")

    def filled(self, machine: Machine) -> bool:
        return (self.folder(machine) / "file").exists()

    def leftovers(self, name: str) -> list[str]:
        service = self.gce.service
        disks = [disk for disk in service.disks if disk.endswith(f"/{name}")]
        folders = [path.name for path in (self.tmp_path / "hosts").iterdir() if path.name.isdigit()]
        return [*disks, *(there for zone, there in service.instances if there == name), *folders]


class TestGceProvider(ProviderSuite):
    wish = Wish(gpus=0, interruptible=True)
    troubles: dict[Trouble, list[Fault]]

    @contextmanager
    def around(self) -> Iterator[None]:
        self.troubles = {
            "lost answer": [LOST],
            "lost request": [CUT] * TRIES,
            "broken": [BROKE] * TRIES,
            "broken, made": [BROKEN],
            "gone": [Fails("ZONE_RESOURCE_POOL_EXHAUSTED", leaves=True)],
            "low bid": [Fails("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS")],
        }
        with TemporaryDirectory() as folder:  # the machines' disks: not this computer's papers
            self.hosts = Folders(Path(folder))
            with Gce(self.clock, self.hosts) as self.gce:
                yield

    def ground(self) -> Ground:
        known = {"GCE_PRICES": "e2-medium=0.0335, e2-standard-2=0.067"}  # on demand, in all regions
        return Ground(self.tmp_path / "machines", Access(self.gce.environment | known), self.clock)

    def identity(self) -> HostIdentity:
        host, login = keys.make(), keys.make()
        return HostIdentity(host.private, host.public, login.public)

    def provider(self) -> Provider:
        return GceProvider(self.ground(), self.clock.advance)

    def machine(self, address: str) -> Machine:
        return GceMachine(address.removeprefix("gce:"), self.ground(), self.clock.advance)

    def books(self) -> list[dict[str, str]]:
        service = self.gce.service
        owned = {disk["source"] for found in service.instances.values() for disk in found["disks"]}
        return [found.get("labels", {}) for found in service.instances.values()] + [{"disk": disk} for disk in service.disks - owned]

    def billed(self) -> list[str]:
        return [f"torpor-{labels['torpor']}-{labels['torpor-until']}" if "torpor" in labels else str(labels) for labels in self.books()]

    def prepare(self, what: Trouble) -> None:
        self.gce.faults.add("insert", *self.troubles[what])

    def never_boots(self) -> None:
        self.hosts.slow = True

    def interrupt(self, address: str) -> None:
        self.gce.service.preempt(*address.split("/")[1:])

    def lives_on(self, address: str) -> None:
        self.gce.faults.always["delete"] = LIES

    def obeys(self, address: str) -> None:
        del self.gce.faults.always["delete"]

    def stranger(self, label: str) -> None:
        make(self.gce, "stranger")
        word, lease, until = [*label.split("-", 2), "", ""][:3]
        labels = {"torpor": lease, "torpor-until": until} if word == "torpor" else {"owner": label} if label else {}
        self.gce.service.instances[ZONE, "stranger"]["labels"] = labels
