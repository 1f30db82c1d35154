"""How Compute Engine writes things down: JSON with 64-bit numbers as strings, unset fields left out, links in full, Pacific time."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

ROOT = "https://www.googleapis.com/compute/v1/"
NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}\Z")


class Refusal(Exception):
    """An answer that is an error, before anything was done."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message

    @property
    def body(self) -> dict[str, Any]:
        told = {"message": self.message, "domain": "global", "reason": self.reason}
        return {"error": {"code": self.status, "message": self.message, "errors": [told]}}


class Fails(NamedTuple):
    """The request is accepted, and its operation ends with an error. `leaves`: what was made stays."""

    code: str
    message: str = "It failed."
    status: int = 503
    leaves: bool = False


def not_found(resource: str) -> Refusal:
    return Refusal(404, "notFound", f"The resource '{resource}' was not found")


def invalid(field: str, value: object, why: str = "") -> Refusal:
    return Refusal(400, "invalid", f"Invalid value for field '{field}': '{value}'. {why}".rstrip())


def when(at: float) -> str:
    return datetime.fromtimestamp(at, timezone(timedelta(hours=-8))).isoformat(timespec="milliseconds")


def fingerprint(what: object) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def check_labels(labels: Mapping[str, str]) -> None:
    for key, value in labels.items():
        if not LABEL_KEY.match(key) or not LABEL_VALUE.match(value):
            raise invalid("resource.labels", f"{key}={value}", "Label keys and values have small letters, digits, dashes, underscores.")


def check_resource(resource: Mapping[str, Any], zone: str, types: Mapping[str, str]) -> None:
    """What the service refuses of a new instance. `types`: the zone's letters by machine type."""
    if not NAME.match(resource["name"]):
        raise invalid("resource.name", resource["name"])
    check_labels(resource.get("labels", {}))
    machine = re.fullmatch(r"zones/([^/]+)/machineTypes/([^/]+)", resource["machineType"])
    if machine is None or machine[1] != zone:
        raise invalid("resource.machineType", resource["machineType"])
    if machine[2] not in types or zone[-1] not in types[machine[2]]:
        raise invalid("resource.machineType", machine[0], f"Machine type with name '{machine[2]}' does not exist in zone '{zone}'.")
    scheduling = resource.get("scheduling", {})
    gpu = machine[2].startswith(("a2-", "a3-", "g2-")) or "guestAccelerators" in resource
    spot = scheduling.get("provisioningModel") == "SPOT"
    if (gpu or spot) and scheduling.get("onHostMaintenance") != "TERMINATE":
        raise invalid("resource.scheduling.onHostMaintenance", scheduling.get("onHostMaintenance", "MIGRATE"))
    if spot and scheduling.get("automaticRestart", True):
        raise invalid("resource.scheduling.automaticRestart", True, "Scheduling must have automaticRestart be false for spot machines.")
    if not spot and "instanceTerminationAction" in scheduling:
        raise invalid("resource.scheduling.instanceTerminationAction", scheduling["instanceTerminationAction"])
    for disk in resource["disks"]:
        asked = disk["initializeParams"]
        if not isinstance(asked["diskSizeGb"], str) or not asked["diskSizeGb"].isdigit():
            raise invalid("resource.disks[0].initializeParams.diskSizeGb", asked["diskSizeGb"])
        if not asked["diskType"].startswith(f"zones/{zone}/diskTypes/"):
            raise invalid("resource.disks[0].initializeParams.diskType", asked["diskType"])
        if not asked["sourceImage"].startswith("projects/debian-cloud/global/images/family/"):
            raise not_found(asked["sourceImage"])


def as_made(project: str, zone: str, number: int, resource: Mapping[str, Any], at: float) -> dict[str, Any]:
    """The instance as it is shown from its first moment on."""
    base = f"{ROOT}projects/{project}/zones/{zone}"
    name = resource["name"]
    disks = []
    for index, disk in enumerate(resource["disks"]):
        own = name if index == 0 else f"{name}-{index}"
        disks.append(
            {
                "kind": "compute#attachedDisk", "type": "PERSISTENT", "mode": "READ_WRITE", "deviceName": f"persistent-disk-{index}",
                "index": index, "source": f"{base}/disks/{own}", "diskSizeGb": disk["initializeParams"]["diskSizeGb"],
                "boot": disk.get("boot", False), "autoDelete": disk.get("autoDelete", False),
            }
        )  # fmt: skip
    networks = []
    for asked in resource["networkInterfaces"]:
        access = [{"kind": "compute#accessConfig", **config} for config in asked.get("accessConfigs", [])]
        networks.append({"name": "nic0", "network": f"{ROOT}{asked.get('network', '')}", "networkIP": f"10.128.0.{number % 250 + 2}"})
        if access:
            networks[-1]["accessConfigs"] = access  # type: ignore[assignment]
    made: dict[str, Any] = {
        "kind": "compute#instance", "id": str(number), "name": name, "zone": base, "status": "PROVISIONING",
        "machineType": f"{ROOT}projects/{project}/{resource['machineType']}", "creationTimestamp": when(at),
        "lastStartTimestamp": when(at), "selfLink": f"{base}/instances/{name}", "disks": disks, "networkInterfaces": networks,
        "scheduling": {"provisioningModel": "STANDARD", "automaticRestart": True} | dict(resource.get("scheduling", {})),
        "startRestricted": False, "deletionProtection": False,
    }  # fmt: skip
    if resource.get("guestAccelerators"):
        made["guestAccelerators"] = resource["guestAccelerators"]
    if resource.get("labels"):
        made["labels"] = dict(resource["labels"])
    made["metadata"] = {"kind": "compute#metadata", "items": [dict(item) for item in resource.get("metadata", {}).get("items", [])]}
    stamp(made)
    return made


def stamp(instance: dict[str, Any]) -> None:
    """The fingerprints that a change of labels or metadata must name."""
    instance["labelFingerprint"] = fingerprint(instance.get("labels", {}))
    instance["metadata"]["fingerprint"] = fingerprint(instance["metadata"]["items"])
