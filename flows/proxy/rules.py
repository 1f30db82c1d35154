"""Which requests a host may send, and what is sent on of each: pure. What no row names is refused.

The rows are what a run-once process worker of Prefect 3.8.8 and its flow run were seen to send, without the worker channel (a web
socket whose messages could not all be checked; without it a worker uses the same routes as before there was one).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from flows.proxy import bodies
from flows.proxy.scope import Refused, Scope

BODY_MAX = 4 * 1024 * 1024  # bytes of a request
LOGS_MAX = 5000
Filter = Callable[[Scope, Any], Any]
B = TypeVar("B")
A = TypeVar("A", bodies.NewArtifact, bodies.UpdateArtifact)


class Forward(msgspec.Struct, frozen=True):
    """A request as it is sent on. `tasks`: task runs it speaks of, which must be of this run. `answer`: what the host gets of the
    server's answer. `made`: the answer's `id` is an artifact of this run from now on. `kept`: whether the server keeps what it says."""

    method: str
    path: str
    body: bytes = b""
    tasks: frozenset[str] = frozenset()
    answer: Filter | None = None
    made: bool = False
    kept: bool = False


class Answer(msgspec.Struct, frozen=True):
    """What the host gets without the server being asked."""

    status: int
    body: bytes = b""


Verdict = Forward | Answer
Row = Callable[[Scope, str, bytes], Verdict]


def judge(scope: Scope, artifacts: frozenset[str], method: str, path: str, body: bytes) -> Verdict:
    """`path`: as it came, below `/api`, without its query, which is never sent on. `artifacts`: ids that this run made.

    Raises `Refused`.
    """
    row = _table(scope, artifacts).get((method, path))
    if row is None:
        raise Refused("not for a host")
    return row(scope, path, body)


def _table(scope: Scope, artifacts: frozenset[str]) -> dict[tuple[str, str], Row]:
    run, pool = f"/flow_runs/{scope.run}", f"/work_pools/{quote(scope.pool, safe='')}"
    reads: list[str] = [
        "/admin/version", run, f"/flows/{scope.flow}", f"/deployments/{scope.deployment}", f"/work_queues/{scope.queue_id}", pool,
    ]  # fmt: skip
    table: dict[tuple[str, str], Row] = {("GET", path): _read for path in reads}
    table |= {
        ("GET", "/csrf-token"): lambda *_: Answer(422, b'{"detail":"CSRF protection is disabled."}'),  # the proxy sees to it
        ("GET", "/admin/storage"): lambda *_: Answer(200, b'{"default_result_storage_block_id":null}'),
        ("PATCH", run): _plain("PATCH", bodies.UpdateRun),
        ("PATCH", f"{run}/labels"): _plain("PATCH", bodies.Labels),
        ("POST", f"{run}/set_state"): _plain("POST", bodies.SetState),
        ("POST", f"{pool}/get_scheduled_flow_runs"): _poll,
        ("POST", f"{pool}/workers/heartbeat"): _heartbeat,
        ("POST", "/flow_runs/filter"): _cancelling,
        ("POST", "/logs/"): _logs,
        ("POST", "/artifacts/"): _artifact,
    }
    return table | {("PATCH", f"/artifacts/{id}"): _update for id in artifacts}


def _decode(body: bytes, kind: type[B]) -> B:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Refused("a body that does not fit") from error


def _read(_: Scope, path: str, _body: bytes) -> Forward:
    return Forward("GET", path)


# Prefect shows descriptions as Markdown: no links, images or HTML of a host's.
_MARKDOWN = str.maketrans(dict.fromkeys("[]<>!`*_|#\\", ""))


def _described(body: A) -> A:
    text = body.description
    if text is None:
        return body
    return msgspec.structs.replace(body, description=text.translate(_MARKDOWN).replace("://", ": ").replace("www.", "www "))


def _update(_: Scope, path: str, body: bytes) -> Forward:
    return Forward("PATCH", path, msgspec.json.encode(_described(_decode(body, bodies.UpdateArtifact))))


def _plain(method: str, kind: type[bodies.Body]) -> Row:
    """A body of this kind for a path that names the run."""

    def row(_: Scope, path: str, body: bytes) -> Forward:
        return Forward(method, path, msgspec.json.encode(_decode(body, kind)))

    return row


def _poll(scope: Scope, path: str, body: bytes) -> Forward:
    asked = _decode(body, bodies.Poll)
    if asked.work_queue_names != [scope.queue]:
        raise Refused("another queue")
    return Forward("POST", path, msgspec.json.encode(asked), answer=_own_runs)


def _own_runs(scope: Scope, answer: Any) -> Any:
    """Of what waits in the queue, this run: another one of the same machine's has a proxy of its own."""
    return [one for one in answer if one["flow_run"]["id"] == scope.run]


def _heartbeat(scope: Scope, path: str, body: bytes) -> Forward:
    beat = _decode(body, bodies.Heartbeat)
    if beat.name != scope.worker:
        raise Refused("another worker")
    return Forward("POST", path, msgspec.json.encode(beat))


def _cancelling(scope: Scope, path: str, _body: bytes) -> Forward:
    """Whatever was asked for: whether this run is to be cancelled."""
    wanted = {"flow_runs": {"id": {"any_": [scope.run]}, "state": {"type": {"any_": ["CANCELLING"]}}}, "limit": 1}
    return Forward("POST", path, msgspec.json.encode(wanted))


def _logs(scope: Scope, path: str, body: bytes) -> Verdict:
    """Lines of this run; a worker's own are dropped."""
    lines = _decode(body, list[bodies.Log])
    if len(lines) > LOGS_MAX or any(line.flow_run_id not in (scope.run, None) for line in lines):
        raise Refused("logs of another run")
    kept = [line for line in lines if line.flow_run_id is not None]
    if not kept:
        return Answer(201)
    tasks = frozenset(line.task_run_id for line in kept if line.task_run_id is not None)
    return Forward("POST", path, msgspec.json.encode(kept), tasks, kept=True)


def _artifact(scope: Scope, path: str, body: bytes) -> Forward:
    new = _described(_decode(body, bodies.NewArtifact))
    if new.flow_run_id != scope.run:
        raise Refused("an artifact of another run")
    tasks = frozenset([new.task_run_id] if new.task_run_id is not None else [])
    return Forward("POST", path, msgspec.json.encode(new), tasks, made=True)
