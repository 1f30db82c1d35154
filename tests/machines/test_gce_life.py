"""The life of a machine at Google: stopped, started, preempted, replaced, deleted; what is told of it, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.gce.field import ZONE, Field
from tests.emulators.gce.hosts import Folders
from tests.emulators.gce.server import BROKEN, CUT, GARBLED, LOST, PROJECT, Fault, Gce
from tests.emulators.gce.service import STUCK
from tests.emulators.gce.shapes import Fails, Refusal
from torpor.clock import FakeClock
from torpor.errors import DestroyRefused, MachineError, UsageError
from torpor.machines.base import OfferGone, Status, Unused
from torpor.machines.gce import GceMachine
from torpor.machines.gce_errors import GceFailed, GceRefused, GceUnavailable
from torpor.machines.gce_papers import Drawer, Papers

DISK = 100 * 0.10 / 730
SPOT = 0.00957 + 4 * 0.001283 + DISK + 0.0025


@pytest.fixture
def hosts(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "hosts")


@pytest.fixture
def field(tmp_path: Path, hosts: Folders) -> Iterator[Field]:
    clock = FakeClock()
    with Gce(clock, hosts) as gce:
        yield Field(tmp_path, gce, clock)


def told(status: Status) -> tuple[str, float | None]:
    return status.state, None if status.price is None else round(status.price, 6)


def test_stopped_and_preempted_are_told_apart(field: Field) -> None:
    field.rent()
    machine = field.machine()
    rental = machine.status().rental
    assert told(machine.status()) == ("running", round(SPOT, 6))
    assert told(machine.stop()) == ("stopped", round(DISK, 6))
    assert told(machine.stop()) == ("stopped", round(DISK, 6))
    assert told(machine.start()) == ("running", round(SPOT, 6))
    field.gce.service.preempt(ZONE, field.name)
    assert told(machine.status()) == ("interrupted", round(DISK, 6))
    assert "preempted" in machine.status().detail
    assert told(machine.create()) == ("running", round(SPOT, 6))
    assert machine.stop().state == "stopped", "it was preempted before its last start"
    assert machine.status().rental == rental


def test_its_address_is_another_after_each_start(field: Field) -> None:
    field.rent()
    machine = field.machine()
    first = machine.access()
    machine.stop()
    with pytest.raises(MachineError, match="stopped"):
        machine.access()
    second = (machine.start(), machine.access())[1]
    assert first.ssh is not None
    assert second.ssh is not None
    assert first.ssh.host != second.ssh.host
    assert first.ssh.host_key == second.ssh.host_key == field.keys.public


@pytest.mark.parametrize("code", ["ZONE_RESOURCE_POOL_EXHAUSTED", "QUOTA_EXCEEDED"])
def test_no_room_for_a_start(field: Field, code: str) -> None:
    field.rent()
    field.gce.service.preempt(ZONE, field.name)
    field.gce.faults.add("start", Fails(code))
    with pytest.raises(OfferGone, match=r"disk is kept.*wake") as caught:
        field.machine().create()
    assert "Nothing was made" not in str(caught.value)
    assert field.machine().status().state == "interrupted"
    assert field.machine().create().state == "running"


def test_a_start_while_it_stops(field: Field) -> None:
    field.rent()
    field.gce.service.waits = 3
    field.instance["status"] = "STOPPING"
    stop = field.gce.service._begin("stop", ZONE, field.instance, lambda: field.gce.service._halt(field.instance), "", None)
    assert field.machine().create().state == "running"
    assert stop.shown["status"] == "DONE"


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("PROVISIONING", "starting"), ("STAGING", "starting"), ("REPAIRING", "unreachable"), ("SUSPENDED", "stopped"),
        ("STOPPING", "stopped"), ("DEPROVISIONING", "stopped"), ("SOMETHING_NEW", "unreachable"),
    ],
)  # fmt: skip
def test_words_of_googles(field: Field, word: str, state: str) -> None:
    field.rent()
    field.instance["status"] = word
    status = field.machine().status()
    assert (status.state, word in status.detail) == (state, True)
    if word == "SUSPENDED":
        assert (status.price, "not known" in status.detail) == (None, True)


def test_its_host_key_first(field: Field, hosts: Folders) -> None:
    """Until the start-up script is done the SSH server has a key of the image's, and nobody may take that for another machine."""
    hosts.slow = True
    field.rent()
    machine = field.machine()
    assert machine.status().state == "starting"
    with pytest.raises(MachineError, match="starting"):
        machine.access()
    hosts.slow = False
    disk = hosts.folder(field.instance)
    script = next(item["value"] for item in field.instance["metadata"]["items"] if item["key"] == "startup-script")
    for _ in range(2):  # as at each start
        hosts.run(disk, script)
    field.gce.service.attributes[field.instance["id"]] = {"torpor/ready": "ready"}
    assert machine.status().state == "running"
    assert (disk / "etc/ssh/ssh_host_ed25519_key").read_text().strip() == field.keys.private.strip()
    assert (disk / "etc/ssh/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert (disk / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2] == field.keys.public.split()
    assert (disk / "systemctl").read_text() == "restart ssh\n"
    assert sorted(path.name for path in (disk / "etc/ssh").iterdir()) == ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"]
    del field.gce.service.attributes[field.instance["id"]]
    assert machine.status().state == "running", "once is for ever: the key is on its disk"


def test_a_project_that_lets_no_machine_tell(field: Field, hosts: Folders) -> None:
    hosts.slow = True
    field.rent()
    field.gce.faults.always = {"getGuestAttributes": Refusal(403, "forbidden", "Guest attributes are disabled by the organization.")}
    assert field.machine().status().state == "running"


def test_ways_in(field: Field) -> None:
    field.rent()
    field.settings = {"GCE_SSH_PORT": "2222", "GCE_SSH_USER": "me"}
    access = field.machine("/srv/work").access()
    assert access.ssh is not None
    assert (access.ssh.port, access.ssh.user, access.roots) == (2222, "me", [b"/srv/work"])
    assert access.state == f".torpor/hosts/{field.machine().status().rental}".encode()
    del field.instance["networkInterfaces"][0]["accessConfigs"]
    inner = field.machine().access()
    assert inner.ssh is not None
    assert inner.ssh.host.startswith("10.128.")
    assert field.machine().status().price == pytest.approx(SPOT - 0.0025)
    field.settings = {"GCE_SSH_PORT": "no"}
    with pytest.raises(UsageError):
        field.machine().access()


# the end


def test_another_of_the_same_name(field: Field) -> None:
    machine = field.rent()
    proof = field.proof(machine)
    field.gce.service.replace(ZONE, field.name)
    with pytest.raises(DestroyRefused):
        machine.destroy(proof)
    assert field.gce.seen("delete") == []
    machine.destroy(field.proof(machine))
    with pytest.raises(DestroyRefused):
        machine.destroy(proof)


def test_another_takes_its_place_at_the_last_moment(field: Field) -> None:
    """Between the look and the deletion: the one of another number stays."""
    machine = field.machine()
    field.rent()
    old = int(field.instance["id"])
    field.gce.service.replace(ZONE, field.name)
    machine._client.delete(machine.place, old)
    assert field.there == [field.name]
    assert field.gce.seen("delete") == []


@pytest.mark.parametrize("trouble", [[LOST], [BROKEN], [CUT, LOST, CUT]])
def test_a_deletion_without_an_answer(field: Field, trouble: list[Fault]) -> None:
    machine = field.rent()
    proof = field.proof(machine)
    field.gce.faults.add("delete", *trouble)
    assert machine.destroy(proof) == Status(machine.address, "destroyed", proof.rental)
    assert field.there == []


@pytest.mark.parametrize("fault", [Fails("INTERNAL_ERROR"), Fails("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", status=400), STUCK])
def test_a_deletion_that_fails(field: Field, fault: Fault) -> None:
    machine = field.rent()
    field.gce.faults.add("delete", fault)
    with pytest.raises((GceFailed, GceRefused, GceUnavailable)):
        machine.destroy(field.proof(machine))
    assert machine.status().state != "destroyed"
    assert field.there == [field.name]


def test_a_crash_after_the_request(field: Field) -> None:
    """The deletion goes on by itself, and the next process tells of it."""
    machine = field.rent()
    proof = field.proof(machine)
    field.gce.faults.always = {"wait": CUT}
    with pytest.raises(GceUnavailable):
        machine.destroy(proof)
    field.gce.faults.always = {}
    field.clock.advance(100_000)
    with suppress(Refusal):
        field.gce.service.look(ZONE, field.name)  # time passes at Google's too
    assert field.machine().status() == Status(machine.address, "destroyed", proof.rental)
    assert field.machine().destroy(proof) == field.machine().status()


@pytest.mark.parametrize("fault", [CUT, GARBLED, Refusal(502, "badGateway", "")])
def test_nobody_can_be_asked(field: Field, fault: Fault) -> None:
    machine = field.rent()
    proof = field.proof(machine)
    field.gce.faults.always = {"get": fault}
    for call in (machine.status, machine.create, machine.access, lambda: machine.destroy(proof)):
        with pytest.raises(GceUnavailable):
            call()
    assert field.gce.seen("delete") == []


@pytest.mark.parametrize("what", ["projects/torpor-tests", "projects/torpor-tests/zones/us-central1-a"])
def test_a_project_that_is_not_found_tells_nothing_of_its_machines(field: Field, what: str) -> None:
    machine = field.rent()
    proof = field.proof(machine)
    field.gce.faults.always = {"get": Refusal(404, "notFound", f"The resource '{what}' was not found")}
    for call in (machine.status, lambda: machine.destroy(proof)):
        with pytest.raises(GceRefused):
            call()
    field.gce.faults.always = {}
    assert machine.status().state == "running"


def test_what_is_protected(field: Field) -> None:
    machine = field.rent()
    field.instance["deletionProtection"] = True
    with pytest.raises(DestroyRefused, match="protect"):
        machine.destroy(field.proof(machine))
    assert machine.status().state == "running"


def test_a_disk_that_stays_is_told(field: Field) -> None:
    """Its owner said that it shall: torpor deletes nothing that no proof is of, and says what it costs."""
    machine = field.rent()
    field.instance["disks"][0]["autoDelete"] = False
    status = machine.destroy(field.proof(machine))
    assert (status.state, field.there) == ("destroyed", [field.name])
    assert f"disks {field.name}" in status.detail
    assert "costing" in field.machine().status().detail


def test_what_somebody_else_deleted(field: Field) -> None:
    machine = field.rent()
    proof = field.proof(machine)
    field.gce.service._remove((ZONE, field.name))
    status = machine.status()
    assert (status.state, "did not delete" in status.detail) == ("missing", True)
    with pytest.raises(DestroyRefused):
        machine.destroy(field.proof(machine, rental="0" * 32))
    assert machine.destroy(proof).state == "destroyed", "Google says that it is gone, and it is the one"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"state":7}'])
def test_papers_that_are_lost(field: Field, text: bytes) -> None:
    machine = field.rent()
    rental = machine.status().rental
    (papers,) = (field.folder / "machines/gce").iterdir()
    papers.write_bytes(text)
    assert (machine.status().state, machine.status().rental) == ("running", rental)
    machine.destroy(field.proof(machine))
    papers.write_bytes(text)
    assert machine.status().state == "missing"


@pytest.mark.parametrize("trouble", [[], [CUT], [Refusal(503, "backendError", "Try again.")]], ids=["none", "silent", "broken"])
def test_claimed_while_a_lease_ends_it(field: Field, trouble: list[Fault], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its labels are read again before each request: what was handed over meanwhile stays."""
    field.rent()
    looks = field.gce.service.look

    def claimed(*_: object) -> None:
        field.provider.hand_over(field.machine().address, field.lease)

    def look(zone: str, name: str) -> dict[str, Any]:
        if not trouble and papers().state == "leaving":
            field.instance["labels"]["torpor-until"] = "kept"
        return looks(zone, name)

    def papers() -> Papers:
        return Drawer(field.ground.folder, machine.place).read()

    machine = GceMachine(f"{PROJECT}/{ZONE}/{field.name}", field.ground, claimed)
    permit = Unused(machine.address, machine.status().rental, "lease", field.clock.now() + 900)
    monkeypatch.setattr(field.gce.service, "look", look)
    field.gce.faults.add("delete", *trouble)
    with pytest.raises(DestroyRefused):
        machine.destroy(permit)
    monkeypatch.undo()
    assert field.there == [field.name]
    assert len(field.gce.seen("delete")) == len(trouble)
    assert not field.machine().status().ending
    assert field.machine().status().state == "running"
    machine.destroy(field.proof(machine))
    assert field.there == []


def test_what_is_being_ended_says_so(field: Field) -> None:
    machine = field.rent()
    field.gce.faults.add("delete", Fails("INTERNAL_ERROR"))
    with pytest.raises(GceFailed):
        machine.destroy(field.proof(machine))
    assert field.machine().status().ending
    machine.destroy(field.proof(machine))
    assert not field.machine().status().ending
