"""The instances and operations of the emulated Compute Engine: what it keeps, what it refuses, how its time passes.

An operation runs until it was asked about `waits` times, by `wait` or by a look at its instance. One that is stuck holds each `wait` for
two minutes of the clock, as Google's does.
"""

from __future__ import annotations

import contextlib
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from tests.emulators.gce.shapes import (
    ROOT,
    Fails,
    Refusal,
    as_made,
    check_labels,
    check_resource,
    fingerprint,
    invalid,
    not_found,
    stamp,
    when,
)
from torpor.clock import FakeClock

STUCK: Literal["stuck"] = "stuck"  # the operation never ends
LIES: Literal["lies"] = "lies"  # the operation ends, and did nothing
Turn = Fails | Literal["stuck", "lies"] | None

E2 = ("e2-micro", "e2-small", "e2-medium", "e2-standard-2", "e2-standard-4")
TYPES = dict.fromkeys(E2, "abcdf") | {"n1-standard-4": "abcf", "g2-standard-4": "ab", "a2-highgpu-1g": "a"}
ZONES = (
    *(f"europe-west4-{one}" for one in "ab"), *(f"us-central1-{one}" for one in "abcf"), *(f"us-east1-{one}" for one in "bcd"),
    *(f"us-east5-{one}" for one in "abc"), *(f"us-west1-{one}" for one in "abc"), *(f"us-west4-{one}" for one in "abc"),
)  # fmt: skip


class Hosts(Protocol):
    """What the instances are when they run."""

    def boot(self, instance: dict[str, Any], service: Service) -> str:
        """Its address."""

    def halt(self, instance: dict[str, Any]) -> None: ...

    def wipe(self, instance: dict[str, Any]) -> None:
        """Its disk is gone."""


class Operation:
    def __init__(self, shown: dict[str, Any], effect: Callable[[], None], waits: int, turn: Turn) -> None:
        self.shown, self.effect, self.waits, self.turn = shown, effect, waits, turn
        self.undo: Callable[[], None] = lambda: None


class Service:
    """One project. `lock` is held by whoever calls."""

    def __init__(self, project: str, clock: FakeClock, hosts: Hosts) -> None:
        self.project, self.clock, self.hosts = project, clock, hosts
        self.lock = threading.RLock()
        self.instances: dict[tuple[str, str], dict[str, Any]] = {}
        self.disks: set[str] = set()
        self.operations: dict[str, Operation] = {}
        self.attributes: dict[str, dict[str, str]] = {}  # of guests, by the instance's id
        self.unreachable: set[str] = set()  # zones, told by a warning of their own
        self.unlisted: set[str] = set()  # zones, told beside all others
        self.waits = 1
        self.page = 500
        self._requests: dict[str, str] = {}
        self._number = 4_200_000_000_000_000_000  # more than a double holds

    # instances

    def find(self, zone: str, name: str) -> dict[str, Any]:
        if zone not in ZONES:
            raise not_found(f"projects/{self.project}/zones/{zone}")
        found = self.instances.get((zone, name))
        if found is None:
            raise not_found(f"projects/{self.project}/zones/{zone}/instances/{name}")
        return found

    def look(self, zone: str, name: str) -> dict[str, Any]:
        found = self.find(zone, name)
        for operation in list(self.operations.values()):
            if operation.shown["targetId"] == found["id"] and operation.turn != STUCK:
                self._pass(operation)
        return self.find(zone, name)

    def insert(self, zone: str, resource: dict[str, Any], request: str, turn: Turn) -> dict[str, Any]:
        if (known := self._known(request)) is not None:
            return known
        check_resource(resource, zone, TYPES)
        key = (zone, resource["name"])
        if key in self.instances:
            raise Refusal(409, "alreadyExists", f"The resource 'projects/{self.project}/zones/{zone}/instances/{key[1]}' already exists")
        self._number += 1
        made = as_made(self.project, zone, self._number, resource, self._tick())
        self.instances[key] = made
        self.disks |= {disk["source"] for disk in made["disks"]}
        operation = self._begin("insert", zone, made, lambda: self._run(made), request, turn)
        if isinstance(turn, Fails) and not turn.leaves:
            operation.undo = lambda: self._remove(key)
        return operation.shown

    def delete(self, zone: str, name: str, request: str, turn: Turn) -> dict[str, Any]:
        if (known := self._known(request)) is not None:
            return known
        found = self.find(zone, name)
        if found["deletionProtection"]:
            raise Refusal(400, "invalid", "Invalid resource usage: 'Resource cannot be deleted if it's protected against deletion.'.")
        if turn is None:
            found["status"] = "STOPPING"
        return self._begin("delete", zone, found, lambda: self._remove((zone, name)), request, turn).shown

    def start(self, zone: str, name: str, request: str, turn: Turn) -> dict[str, Any]:
        if (known := self._known(request)) is not None:
            return known
        found = self.find(zone, name)
        if found["status"] not in ("TERMINATED", "RUNNING"):
            raise Refusal(400, "resourceNotReady", f"The resource '{name}' is not ready")

        def run() -> None:
            if found["status"] != "RUNNING":
                found["lastStartTimestamp"] = when(self._tick())
                self._run(found)

        return self._begin("start", zone, found, run, request, turn).shown

    def stop(self, zone: str, name: str, request: str, turn: Turn) -> dict[str, Any]:
        if (known := self._known(request)) is not None:
            return known
        found = self.find(zone, name)
        return self._begin("stop", zone, found, lambda: self._halt(found), request, turn).shown

    def set_labels(self, zone: str, name: str, body: Mapping[str, Any], request: str, turn: Turn) -> dict[str, Any]:
        if (known := self._known(request)) is not None:
            return known
        found = self.find(zone, name)
        if body.get("labelFingerprint") != found["labelFingerprint"]:
            raise Refusal(412, "conditionNotMet", "Labels fingerprint either invalid or resource labels have changed")
        check_labels(body.get("labels", {}))

        def change() -> None:
            found["labels"] = dict(body["labels"])
            stamp(found)

        return self._begin("setLabels", zone, found, change, request, turn).shown

    def set_metadata(self, zone: str, name: str, body: Mapping[str, Any], request: str, turn: Turn) -> dict[str, Any]:
        if (known := self._known(request)) is not None:
            return known
        found = self.find(zone, name)
        if body.get("fingerprint") != found["metadata"]["fingerprint"]:
            raise Refusal(412, "conditionNotMet", "Supplied fingerprint does not match current metadata fingerprint.")

        def change() -> None:
            found["metadata"]["items"] = [dict(item) for item in body.get("items", [])]
            stamp(found)

        return self._begin("setMetadata", zone, found, change, request, turn).shown

    def guest_attributes(self, zone: str, name: str, path: str) -> dict[str, Any]:
        found = self.find(zone, name)
        metadata = {item["key"]: item["value"] for item in found["metadata"]["items"]}
        if metadata.get("enable-guest-attributes") != "TRUE":
            raise Refusal(412, "conditionNotMet", "Guest attributes endpoint access is disabled.")
        namespace, _, key = path.partition("/")
        value = self.attributes.get(found["id"], {}).get(path)
        if value is None:
            raise Refusal(404, "notFound", f"The resource '{path}' was not found")
        return {"kind": "compute#guestAttributes", "queryPath": path,
                "queryValue": {"items": [{"namespace": namespace, "key": key, "value": value}]}}  # fmt: skip

    def aggregated(self, text: str, token: str) -> dict[str, Any]:
        label = re.fullmatch(r"labels\.([a-z0-9_-]+)(?::\*|=(.*))", text)
        if label is None:
            raise invalid("filter", text)
        there = [
            (key[0], found)
            for key, found in sorted(self.instances.items())
            if label[1] in found.get("labels", {}) and label[2] in (None, found["labels"][label[1]])
        ]
        begin = int(token or 0)
        shown = there[begin : begin + self.page]
        items: dict[str, Any] = {}
        for zone in ZONES:
            mine = [found for where, found in shown if where == zone]
            if zone in self.unreachable:
                items[f"zones/{zone}"] = {"warning": {"code": "UNREACHABLE", "message": f"{zone} is down"}}
            elif mine:
                items[f"zones/{zone}"] = {"instances": mine}
            else:
                told = {"code": "NO_RESULTS_ON_PAGE", "message": f"There are no results for scope 'zones/{zone}' on this page.",
                        "data": [{"key": "scope", "value": f"zones/{zone}"}]}  # fmt: skip
                items[f"zones/{zone}"] = {"warning": told}
        out = {"kind": "compute#instanceAggregatedList", "id": "x", "items": items}
        if self.unlisted:
            out["unreachables"] = sorted(self.unlisted)
        if begin + self.page < len(there):
            out["nextPageToken"] = str(begin + self.page)
        return out

    # operations

    def listed(self, zone: str, text: str) -> dict[str, Any]:
        asked = re.fullmatch(r'operationType="([A-Za-z.]+)"', text)
        if asked is None:
            raise invalid("filter", text)
        found = [one.shown for one in self.operations.values() if one.shown["zone"].endswith(f"/{zone}")]
        return {"kind": "compute#operationList", "items": [one for one in found if one["operationType"] == asked[1]]}

    def wait(self, zone: str, name: str) -> dict[str, Any]:
        operation = self.operations.get(name)
        if operation is None or not operation.shown["zone"].endswith(f"/{zone}"):
            raise not_found(f"projects/{self.project}/zones/{zone}/operations/{name}")
        if operation.turn == STUCK:
            self.clock.advance(120)
        else:
            self._pass(operation)
        return operation.shown

    # what happens by itself

    def preempt(self, zone: str, name: str) -> None:
        """Google takes a spot machine back."""
        with self.lock:
            found = self.find(zone, name)
            self._halt(found)
            operation = self._begin("compute.instances.preempted", zone, found, lambda: None, "", None)
            operation.shown |= {"status": "DONE", "progress": 100, "user": "system", "statusMessage": "Instance was preempted.",
                                "endTime": operation.shown["insertTime"]}  # fmt: skip

    def replace(self, zone: str, name: str) -> None:
        """Somebody deletes it and makes another of the same name, just like it."""
        with self.lock:
            old = self.find(zone, name)
            self._remove((zone, name))
            self._number += 1
            new = old | {"id": str(self._number)}
            self.instances[zone, name] = new
            self._run(new)

    def _run(self, instance: dict[str, Any]) -> None:
        where = self.hosts.boot(instance, self)
        instance["status"] = "RUNNING"
        for network in instance["networkInterfaces"]:
            for access in network.get("accessConfigs", []):
                access["natIP"] = where

    def _halt(self, instance: dict[str, Any]) -> None:
        self.hosts.halt(instance)
        instance["status"] = "TERMINATED"
        instance["lastStopTimestamp"] = when(self._tick())
        for network in instance["networkInterfaces"]:
            for access in network.get("accessConfigs", []):
                access.pop("natIP", None)

    def _remove(self, key: tuple[str, str]) -> None:
        found = self.instances.pop(key, None)
        if found is not None:
            self.hosts.halt(found)
            self.hosts.wipe(found)
            self.disks -= {disk["source"] for disk in found["disks"] if disk["autoDelete"]}

    # how

    def _tick(self) -> float:
        """No two things happen at once."""
        self.clock.advance(0.001)
        return self.clock.now()

    def _known(self, request: str) -> dict[str, Any] | None:
        if not request:
            return None
        try:
            uuid.UUID(request)
        except ValueError:
            raise invalid("requestId", request) from None
        name = self._requests.get(request)
        return None if name is None else self.operations[name].shown

    def _begin(self, kind: str, zone: str, target: Mapping[str, Any], effect: Callable[[], None], request: str, turn: Turn) -> Operation:
        at = self._tick()
        name = f"operation-{fingerprint([kind, at])}"
        base = f"{ROOT}projects/{self.project}/zones/{zone}"
        shown = {
            "kind": "compute#operation", "id": str(9_000_000_000_000_000_000 + len(self.operations)), "name": name, "zone": base,
            "operationType": kind, "targetLink": target["selfLink"], "targetId": target["id"], "status": "RUNNING", "progress": 0,
            "user": "torpor@tests.iam.gserviceaccount.com", "insertTime": when(at), "startTime": when(at),
            "selfLink": f"{base}/operations/{name}",
        }  # fmt: skip
        self.operations[name] = operation = Operation(shown, effect, self.waits, turn)
        if request:
            self._requests[request] = name
        return operation

    def _pass(self, operation: Operation) -> None:
        """A moment of its time."""
        if operation.shown["status"] == "DONE":
            return
        operation.waits -= 1
        if operation.waits > 0:
            return
        operation.shown |= {"status": "DONE", "progress": 100, "endTime": when(self._tick())}
        if isinstance(operation.turn, Fails):
            turn = operation.turn
            operation.shown |= {
                "error": {"errors": [{"code": turn.code, "message": turn.message}]},
                "httpErrorStatusCode": turn.status, "httpErrorMessage": "SERVICE UNAVAILABLE",
            }  # fmt: skip
            with contextlib.suppress(KeyError):
                operation.undo()
        elif operation.turn != LIES:
            operation.effect()
