"""Renting from Google: what is asked for, and everything that goes wrong between the request and the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.gce.field import ZONE, Field
from tests.emulators.gce.hosts import Folders
from tests.emulators.gce.server import BROKEN, CUT, GARBLED, LOST, Fault, Gce
from tests.emulators.gce.service import STUCK
from tests.emulators.gce.shapes import Fails, Refusal
from torpor.clock import FakeClock
from torpor.errors import MachineError, UsageError
from torpor.machines import lease as leases
from torpor.machines.base import Ambiguous, OfferGone
from torpor.machines.gce_errors import GceChanged, GceFailed, GceQuota, GceRefused, GceTaken, GceUnavailable
from torpor.machines.gce_request import LEASE, UNTIL
from torpor.machines.table import open_provider


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    clock = FakeClock()
    with Gce(clock, Folders(tmp_path / "hosts")) as gce:
        yield Field(tmp_path, gce, clock)


def test_what_is_asked_for(field: Field) -> None:
    field.rent()
    (seen,) = field.gce.seen("insert")
    metadata = {item["key"]: item["value"] for item in seen.body.pop("metadata")["items"]}
    labels = {"torpor": field.lease.id, "torpor-until": str(field.lease.until)}
    assert seen.body == {
        "name": field.name,
        "machineType": f"zones/{ZONE}/machineTypes/e2-medium",
        "scheduling": {
            "provisioningModel": "SPOT",
            "instanceTerminationAction": "STOP",
            "automaticRestart": False,
            "onHostMaintenance": "TERMINATE",
        },
        "labels": labels,
        "disks": [
            {
                "boot": True,
                "autoDelete": True,
                "initializeParams": {
                    "diskSizeGb": "100",
                    "diskType": f"zones/{ZONE}/diskTypes/pd-balanced",
                    "sourceImage": "projects/debian-cloud/global/images/family/debian-13",
                    "labels": {"torpor": field.lease.id},
                },
            }
        ],
        "networkInterfaces": [
            {"network": "global/networks/default", "accessConfigs": [{"name": "External NAT", "type": "ONE_TO_ONE_NAT"}]}
        ],
    }
    assert field.keys.private.strip() in metadata.pop("startup-script")
    assert metadata == {
        "ssh-keys": f"torpor:{field.keys.login}",
        "block-project-ssh-keys": "TRUE",
        "enable-oslogin": "FALSE",
        "enable-guest-attributes": "TRUE",
        "torpor-host-key": field.keys.public,
        "torpor-disk-type": "pd-balanced",
    }


def test_what_else_can_be_asked_for(field: Field) -> None:
    field.settings = {
        "GCE_DISK_GB": "50",
        "GCE_DISK_TYPE": "pd-standard",
        "GCE_GPU_IMAGE": "projects/debian-cloud/global/images/family/with-drivers",
        "GCE_SUBNETWORK": "regions/us-central1/subnetworks/mine",
    }
    field.rent("n1-standard-4+nvidia-tesla-t4:1")
    body = field.gce.seen("insert")[0].body
    assert body["scheduling"] == {"provisioningModel": "STANDARD", "onHostMaintenance": "TERMINATE"}
    assert body["guestAccelerators"] == [{"acceleratorType": f"zones/{ZONE}/acceleratorTypes/nvidia-tesla-t4", "acceleratorCount": 1}]
    asked = body["disks"][0]["initializeParams"]
    assert (asked["diskSizeGb"], asked["diskType"].rpartition("/")[2]) == ("50", "pd-standard")
    assert asked["sourceImage"].endswith("/with-drivers")
    assert body["networkInterfaces"][0]["subnetwork"] == "regions/us-central1/subnetworks/mine"
    field.rent("g2-standard-4", lease=leases.new(0, 1))
    assert "guestAccelerators" not in field.gce.seen("insert")[1].body


@pytest.mark.parametrize(
    "trouble", [[LOST], [BROKEN], [CUT, LOST], [GARBLED], [LOST, CUT, CUT, CUT], [Refusal(429, "rateLimitExceeded", "Slow")]]
)
def test_an_answer_that_is_lost(field: Field, trouble: list[Fault]) -> None:
    """Asked again by the same number, Google makes no second; and if it stays silent, the name tells."""
    field.gce.faults.add("insert", *trouble)
    machine = field.rent()
    assert len({seen.query["requestId"] for seen in field.gce.seen("insert")}) == 1
    assert len(field.gce.seen("insert")) == min(len(trouble) + 1, 4)
    assert field.there == [field.name]
    assert machine.create().state == "running"


def test_another_process_asks_by_the_same_number(field: Field) -> None:
    first = field.rent().status().rental
    assert field.rent().status().rental == first
    assert len({seen.query["requestId"] for seen in field.gce.seen("insert")}) == 1


def test_nobody_answers(field: Field) -> None:
    field.gce.faults.always = {"insert": LOST, "get": CUT}
    with pytest.raises(Ambiguous, match="sweep"):
        field.rent()
    field.gce.faults.always = {}
    assert [found.label.id for found in field.provider.rented()] == [field.lease.id]


@pytest.mark.parametrize("times", [4, 8], ids=["then it does", "it does not"])
def test_it_is_made_and_google_does_not_show_it(field: Field, times: int) -> None:
    field.gce.faults.add("get", *[CUT] * times)
    if times == 4:
        assert field.rent().create().state == "running"
    else:
        with pytest.raises(Ambiguous, match="sweep"):
            field.rent()
    assert field.there == [field.name]
    assert [found.label.id for found in field.provider.rented()] == [field.lease.id]


@pytest.mark.parametrize("answer", [[], [LOST] * 4], ids=["at once", "looked for"])
def test_it_is_made_and_can_not_be_written_down(field: Field, answer: list[Fault]) -> None:
    (field.folder / "machines").write_text("where a folder should be")
    field.gce.faults.add("insert", *answer)
    with pytest.raises(OSError, match="machines"):
        field.rent()
    assert field.there == []


def test_neither_written_down_nor_deleted(field: Field) -> None:
    (field.folder / "machines").write_text("where a folder should be")
    field.gce.faults.always = {"delete": CUT}
    with pytest.raises(Ambiguous, match="sweep"):
        field.rent()
    assert field.there == [field.name]


def test_an_operation_without_end(field: Field) -> None:
    field.gce.faults.add("insert", STUCK)
    began = field.clock.now()
    machine = field.rent()
    assert field.clock.now() - began < 900
    assert machine.status().state == "starting"
    assert field.there == [field.name]


GONE: list[tuple[Fault, type[MachineError]]] = [
    (Fails("ZONE_RESOURCE_POOL_EXHAUSTED"), OfferGone),
    (Fails("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", leaves=True), OfferGone),
    (Fails("QUOTA_EXCEEDED", "Quota 'CPUS' exceeded. Limit: 24.0 in region us-central1.", 403), GceQuota),
    (Refusal(403, "quotaExceeded", "Quota 'CPUS' exceeded."), GceQuota),
    (Fails("INTERNAL_ERROR", leaves=True), GceFailed),
    (Fails("PERMISSIONS_ERROR", status=403), GceRefused),
    (Fails(""), GceRefused),
    (Refusal(403, "forbidden", "Required 'compute.instances.create' permission"), GceRefused),
    (Refusal(403, "accessNotConfigured", "The API has not been used in project 1 before"), GceRefused),
    (Refusal(400, "invalid", "Invalid value"), GceRefused),
    (Refusal(404, "notFound", "The resource 'projects/torpor-tests' was not found"), GceRefused),
]


@pytest.mark.parametrize(("fault", "kind"), GONE, ids=lambda value: getattr(value, "code", getattr(value, "reason", "")) or None)
def test_what_google_refuses(field: Field, fault: Fault, kind: type[MachineError]) -> None:
    """Typed, with what to do, and nothing is left that costs."""
    field.gce.faults.add("insert", fault)
    with pytest.raises(MachineError) as caught:
        field.rent()
    assert type(caught.value) is kind
    assert caught.value.remedy
    assert field.keys.private.splitlines()[1] not in str(caught.value)
    assert field.there == []


@pytest.mark.parametrize(("kind", "settings"), [("a2-highgpu-1g", {}), ("e2-medium", {"GCE_IMAGE": "projects/p/global/images/family/x"})])
def test_what_is_not_there(field: Field, kind: str, settings: dict[str, str]) -> None:
    field.settings = settings
    with pytest.raises(GceRefused if settings else OfferGone):
        field.rent(kind, zone="us-central1-b")
    assert field.there == []


def test_what_is_left_and_can_not_be_deleted(field: Field) -> None:
    field.gce.faults.add("insert", Fails("INTERNAL_ERROR", leaves=True))
    field.gce.faults.always = {"delete": CUT}
    with pytest.raises(Ambiguous, match="sweep"):
        field.rent()
    assert field.there == [field.name]


def test_a_name_that_is_taken_by_another(field: Field) -> None:
    field.rent()
    field.instance["labels"] = {"torpor": "0123456789ab", "torpor-until": "kept"}
    field.gce.service._requests.clear()
    with pytest.raises(GceTaken):
        field.rent()
    assert field.there == [field.name]


# labels


def test_the_private_key_leaves_google_at_the_hand_over(field: Field) -> None:
    machine = field.rent()
    field.instance["labels"]["team"] = "x"
    field.provider.hand_over(machine.address, field.lease)
    keys = {item["key"] for item in field.instance["metadata"]["items"]}
    assert "startup-script" not in keys
    assert {"ssh-keys", "torpor-host-key"} <= keys
    assert field.instance["labels"] == {"team": "x", LEASE: field.lease.id, UNTIL: "kept"}
    assert machine.status().state == "running"


def script(field: Field) -> str:
    return next((item["value"] for item in field.instance["metadata"]["items"] if item["key"] == "startup-script"), "")


def test_handed_over_while_it_boots(field: Field) -> None:
    """Its script is left until it has installed the pinned host key: without, nobody could ever reach it. Then the private key goes."""
    hosts = field.gce.service.hosts
    assert isinstance(hosts, Folders)
    hosts.slow = True
    machine = field.rent()
    field.provider.hand_over(machine.address, field.lease)
    assert field.instance["labels"][UNTIL] == "kept"
    assert machine.status().state == "starting"
    hosts.slow = False
    hosts.run(hosts.folder(field.instance), script(field))
    field.gce.service.attributes[field.instance["id"]] = {"torpor/ready": "ready"}
    assert field.machine().create().state == "running"
    field.gce.faults.add("setMetadata", Refusal(412, "conditionNotMet", "Supplied fingerprint does not match"))
    for left in (True, False, False):
        target = field.machine().access().ssh
        assert target is not None
        assert target.host_key == field.keys.public
        assert bool(script(field)) is left
    assert len(field.gce.seen("setMetadata")) == 2


def test_handed_over_again_once_it_has_booted(field: Field) -> None:
    hosts = field.gce.service.hosts
    assert isinstance(hosts, Folders)
    hosts.slow = True
    machine = field.rent()
    field.provider.hand_over(machine.address, field.lease)
    assert script(field)
    field.gce.service.attributes[field.instance["id"]] = {"torpor/ready": "ready"}
    field.provider.hand_over(machine.address, field.lease)
    assert not script(field)


@pytest.mark.parametrize("word", ["STAGING", "RUNNING"])
def test_handed_over_where_no_machine_tells(field: Field, word: str) -> None:
    """As long as Google says that it starts, its script has not run."""
    machine = field.rent()
    field.gce.faults.always = {"getGuestAttributes": Refusal(403, "forbidden", "Guest attributes are disabled by the organization.")}
    field.instance["status"] = word
    field.provider.hand_over(machine.address, field.lease)
    assert bool(script(field)) is (word == "STAGING")


@pytest.mark.parametrize("call", ["setLabels", "setMetadata"])
def test_somebody_else_changes_it_at_the_same_time(field: Field, call: str) -> None:
    machine = field.rent()
    changed = Refusal(412, "conditionNotMet", "Labels fingerprint either invalid or resource labels have changed")
    field.gce.faults.add(call, changed, LOST)
    field.provider.hand_over(machine.address, field.lease)
    assert field.instance["labels"][UNTIL] == "kept"
    field.rent(lease=(other := leases.new(0, 5)))
    field.gce.faults.always = {call: changed}
    with pytest.raises(GceChanged):
        field.provider.hand_over(machine.address.replace(field.lease.id, other.id), other)


def test_the_hand_over_of_another_lease(field: Field) -> None:
    machine = field.rent()
    with pytest.raises(MachineError, match="lease"):
        field.provider.hand_over(machine.address, leases.new(0, 1))
    with pytest.raises(MachineError, match="not there"):
        field.provider.hand_over(machine.address + "x", field.lease)
    assert field.instance["labels"][UNTIL] == str(field.lease.until)


def test_all_zones_and_pages(field: Field) -> None:
    field.gce.service.page = 1
    made = {field.rent(zone=zone, lease=leases.new(0, 1)).address for zone in (ZONE, "us-central1-b", "europe-west4-a", ZONE)}
    assert {found.address for found in field.provider.rented()} == made
    assert len(made) == 4


@pytest.mark.parametrize("told", ["unreachable", "unlisted"])
def test_a_zone_that_can_not_be_asked(field: Field, told: str) -> None:
    """Machines in it may cost, so nobody says that there are none."""
    field.rent()
    setattr(field.gce.service, told, {"us-east1-b"})
    with pytest.raises(GceUnavailable, match="us-east1-b"):
        field.provider.rented()
    setattr(field.gce.service, told, set())
    assert len(field.provider.rented()) == 1


@pytest.mark.parametrize("project", ["", "x", "My Project", "a/b"])
def test_without_a_project(field: Field, project: str) -> None:
    field.settings = {"GCE_PROJECT": project}
    with pytest.raises(UsageError):
        open_provider("gce", field.ground)
