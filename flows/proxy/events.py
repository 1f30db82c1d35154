"""Events: those that a host may say, written anew; and what it may hear, which is of its own run alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from flows.proxy import bodies
from flows.proxy.scope import Refused, Scope

TASK, RUN, WORKER = "prefect.task-run.", "prefect.flow-run.", "prefect.worker.process."
_TASK_STATES = (
    "Scheduled", "Pending", "Running", "Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Paused", "Retrying", "AwaitingRetry",
    "Late", "TimedOut", "RolledBack", "Cached", "NotReady",
)  # fmt: skip
_WORKER_WORDS = ("started", "stopped", "submitted-flow-run", "executed-flow-run")
_HEARD = ("prefect.flow-run.Cancelling", "prefect.flow-run.Suspended")
_LABELS = (
    "prefect.resource.name", "prefect.run-count", "prefect.state-message", "prefect.state-name", "prefect.state-timestamp",
    "prefect.state-type", "prefect.version", "prefect.worker-type",
)  # fmt: skip


class Said(msgspec.Struct, frozen=True):
    """An event as it goes on. `task`: the task run that it is of, which must be of this run; empty for others."""

    event: dict[str, Any]
    task: str = ""


def incoming(scope: Scope, text: bytes | str) -> Said | None:
    """The event as it goes on; None for one that is dropped without a word. Raises `Refused`.

    A task's event writes the task's state on the server, which is why it is written anew here.
    """
    try:
        found = msgspec.json.decode(text, type=bodies.Event)
        resource, name = found.resource.get("prefect.resource.id", ""), found.event
        labels = {label: found.resource[label] for label in _LABELS if label in found.resource}
        payload: object = {}
        task = ""
        if name.startswith(TASK) and name.removeprefix(TASK) in _TASK_STATES and resource.startswith(TASK):
            task = msgspec.convert(resource.removeprefix(TASK), bodies.UUID)
            labels["prefect.orchestration"] = "client"
            payload = msgspec.to_builtins(msgspec.json.decode(found.payload, type=bodies.TaskPayload))
        elif name.startswith("prefect.artifact."):
            return None  # the artifact itself came as a request
        elif not (
            (name == f"{RUN}heartbeat" and resource == RUN + scope.run)
            or (name.removeprefix("prefect.worker.") in _WORKER_WORDS and resource == WORKER + scope.worker)
        ):
            raise Refused(f"event {name}")
    except (msgspec.MsgspecError, ValueError) as error:
        raise Refused("an event that is none") from error
    event = {
        "occurred": found.occurred,
        "event": name,
        "resource": {"prefect.resource.id": resource} | labels,
        "related": related(scope),
        "payload": payload,
        "id": found.id,
        "follows": found.follows,
    }
    return Said(event, task)


def related(scope: Scope) -> list[Mapping[str, str]]:
    """The run that every event of this host's is of."""
    ids = {
        "flow-run": scope.run,
        "flow": scope.flow,
        "deployment": scope.deployment,
        "work-queue": scope.queue_id,
        "work-pool": scope.pool_id,
    }
    return [{"prefect.resource.id": f"prefect.{role}.{id}", "prefect.resource.role": role} for role, id in ids.items()]


def subscription(scope: Scope, text: bytes | str) -> dict[str, Any]:
    """The first message of `/events/out`: whatever was asked for, it is about this run. Raises `Refused`."""
    try:
        asked = msgspec.json.decode(text, type=_Subscription)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Refused("a filter that is none") from error
    names = [name for name in asked.filter.event.name if name in _HEARD]
    if asked.type != "filter" or not names:
        raise Refused("events of others")
    chosen = {
        "occurred": msgspec.to_builtins(asked.filter.occurred),
        "event": {"name": names},
        "resource": {"id": [RUN + scope.run]},
    }
    return {"type": "filter", "filter": chosen}


def outgoing(scope: Scope, text: bytes | str) -> bool:
    """Whether the host may hear this message of the server's."""
    try:
        heard = msgspec.json.decode(text, type=_Heard)
    except (msgspec.MsgspecError, ValueError):
        return False
    return heard.type == "event" and heard.event.event in _HEARD and heard.event.resource.get("prefect.resource.id") == RUN + scope.run


class _Times(bodies.Body, frozen=True):
    since: bodies.Time | None = None
    until: bodies.Time | None = None


class _Names(bodies.Body, frozen=True):
    name: tuple[bodies.Name, ...] = ()


class _Filter(bodies.Body, frozen=True):
    event: _Names
    occurred: _Times = _Times()


class _Subscription(bodies.Body, frozen=True):
    type: str
    filter: _Filter


class _HeardEvent(msgspec.Struct, frozen=True):
    event: str
    resource: dict[str, str]


class _Heard(msgspec.Struct, frozen=True):
    type: str
    event: _HeardEvent
