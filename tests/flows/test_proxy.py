"""From a host's view: what its way to the API lets through, and what it does not. A real server with a password, a real tunnel."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client

from flows.enlist import enlist
from flows.pool import server
from flows.proxy.scope import Scope
from flows.proxy.server import Proxy
from tests.emulators.sshd import Sshd
from tests.flows.field import until
from tests.flows.pooled import PYTHON, read, tasks_of
from torpor.ssh.connect import SshShell
from torpor.ssh.tunnel import Tunnel

SCRIPT = str(Path(__file__).with_name("as_a_host.py"))
NOBODY = "00000000-0000-4000-8000-000000000000"


class Way:
    """The way of one run, and somebody on its host."""

    def __init__(self, machine: Sshd, queue: str) -> None:
        api, password = server()
        self.scope: Scope = enlist(queue, f"job-{queue}")
        self.refused: list[str] = []
        self.proxy = Proxy(api, self.scope, password=password, refused=self.refused.append)
        self._machine = machine

    def tries(self, *requests: tuple[str, str, Any], events: Any = (), sockets: Any = (), password: str = "") -> dict[str, Any]:
        shell, tunnel = SshShell(self._machine.target), Tunnel(self._machine.target, self.proxy.port)
        given = {
            "api": f"http://127.0.0.1:{tunnel.open()}/api",
            "password": password or self.proxy.password,
            "requests": requests,
            "events": list(events),
            "sockets": list(sockets),
        }
        try:
            ran = shell.run(" ".join([*PYTHON, SCRIPT]), json.dumps(given).encode())
        finally:
            tunnel.close()
            shell.close()
        assert ran.code == 0, ran.err.decode()
        found: dict[str, Any] = json.loads(ran.out)
        return found


@pytest.fixture(scope="module")
def way(guarded: None, machine: Sshd) -> Iterator[Way]:
    made = Way(machine, "box-7")
    with made.proxy:
        yield made


@pytest.fixture(scope="module")
def other(guarded: None, machine: Sshd) -> Iterator[Way]:
    made = Way(machine, "box-8")
    with made.proxy:
        yield made


def event(name: str, resource: str, related: str = "", **more: Any) -> dict[str, Any]:
    roles = [{"prefect.resource.id": f"prefect.flow-run.{related}", "prefect.resource.role": "flow-run"}] if related else []
    made = {"occurred": "2026-11-26T12:00:00.000000Z", "event": name, "resource": {"prefect.resource.id": resource}, "related": roles}
    return made | {"id": str(uuid.uuid4()), "payload": {}} | more


def task_event(named: str, run: str, state: str, **task: Any) -> dict[str, Any]:
    told = {"type": state.upper(), "name": state, "message": "", "state_details": {}, "data": {"type": "evil"}}
    payload = {
        "validated_state": told,
        "task_run": {"name": "t", "task_key": "t", "dynamic_key": named} | task,
        "intended": {"to": state.upper()},
    }
    return event(f"prefect.task-run.{state}", f"prefect.task-run.{named}", run, payload=payload)


def test_what_is_not_needed_is_refused(way: Way, other: Way) -> None:
    run, theirs, scope = way.scope.run, other.scope.run, way.scope
    state = {"state": {"type": "CANCELLED", "name": "Cancelled"}}
    log = {"name": "x", "level": 20, "message": "x", "timestamp": "2026-11-26T12:00:00Z", "flow_run_id": theirs}
    tries: list[tuple[str, str, Any]] = [
        ("POST", "/block_documents/filter", {"include_secrets": True}),
        ("GET", f"/block_documents/{NOBODY}", None),
        ("GET", "/block_types/slug/secret/block_documents/name/vast?include_secrets=true", None),
        ("POST", "/variables/filter", {}),
        ("GET", "/variables/name/x", None),
        ("POST", "/variables/", {"name": "x", "value": "y"}),
        ("GET", f"/flow_runs/{theirs}", None),
        ("DELETE", f"/flow_runs/{run}", None),
        ("DELETE", f"/flow_runs/{theirs}", None),
        ("POST", f"/flow_runs/{theirs}/set_state", state),
        ("PATCH", f"/flow_runs/{theirs}", {"name": "mine"}),
        ("POST", "/flow_runs/", {"flow_id": scope.flow, "state": {"type": "SCHEDULED"}}),
        ("GET", f"/flow_runs/{run}/input", None),
        ("POST", f"/flow_runs/{run}/resume", {}),
        ("POST", f"/deployments/{scope.deployment}/create_flow_run", {"parameters": {"job": "mine"}}),
        ("PATCH", f"/deployments/{scope.deployment}", {"paused": True}),
        ("DELETE", f"/deployments/{scope.deployment}", None),
        ("GET", f"/deployments/{NOBODY}", None),
        ("POST", "/deployments/filter", {}),
        ("POST", "/flows/", {"name": "evil"}),
        ("POST", "/task_runs/filter", {}),
        ("GET", f"/task_runs/{NOBODY}", None),
        ("POST", "/task_runs/", {"flow_run_id": theirs, "task_key": "t", "dynamic_key": "0"}),
        ("POST", f"/task_runs/{NOBODY}/set_state", state),
        ("POST", "/work_pools/", {"name": "mine", "type": "process"}),
        ("PATCH", "/work_pools/gpu", {"is_paused": True}),
        ("DELETE", "/work_pools/gpu", None),
        ("GET", "/work_pools/control", None),
        ("POST", "/work_pools/gpu/queues/filter", {}),
        ("POST", "/work_pools/gpu/workers/filter", {}),
        ("POST", "/work_pools/control/get_scheduled_flow_runs", {"work_queue_names": [scope.queue]}),
        ("POST", "/work_pools/gpu/get_scheduled_flow_runs", {"work_queue_names": [other.scope.queue]}),
        ("POST", "/work_pools/gpu/get_scheduled_flow_runs", {}),
        ("POST", "/work_pools/gpu/get_scheduled_flow_runs", {"work_queue_names": [scope.queue, other.scope.queue]}),
        ("POST", "/work_pools/gpu/workers/heartbeat", {"name": other.scope.worker}),
        ("DELETE", f"/work_queues/{scope.queue_id}", None),
        ("GET", f"/work_queues/{other.scope.queue_id}", None),
        ("POST", "/logs/", [log]),
        ("POST", "/logs/filter", {}),
        ("POST", "/artifacts/", {"type": "progress", "data": 1.0, "key": "scan-progress", "flow_run_id": theirs}),
        ("POST", "/artifacts/", {"type": "markdown", "data": "[click](http://127.0.0.1)", "key": "x", "flow_run_id": run}),
        ("POST", "/artifacts/", {"type": "progress", "data": 1.0, "key": "recovery-receipt", "flow_run_id": run}),
        ("PATCH", f"/artifacts/{NOBODY}", {"data": 1.0}),
        ("POST", "/artifacts/filter", {}),
        ("POST", "/events", [event("torpor.spot-interruption", "torpor.instance.x")]),
        ("POST", "/events/filter", {}),
        ("POST", "/automations/", {}),
        ("POST", "/automations/filter", {}),
        ("POST", "/v2/concurrency_limits/increment", {"names": ["x"], "slots": 1}),
        ("POST", "/concurrency_limits/filter", {}),
        ("POST", "/admin/database/drop", {"confirm": True}),
        ("GET", "/admin/settings", None),
        ("GET", "/../api/admin/settings", None),
        ("GET", f"/flow_runs/{run}/../{theirs}", None),
        ("GET", f"/flow_runs/{run}%2f..%2f{theirs}", None),
        ("HEAD", f"/flow_runs/{theirs}", None),
        ("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "EVIL"}}),
        ("POST", f"/flow_runs/{run}/set_state", ["x" * 5_000_000]),
    ]  # fmt: skip
    way.refused.clear()
    found = way.tries(*tries, sockets=["/work_pools/gpu/workers/connect", "/logs/out", "/events/in"])
    passed = [(method, path, answer) for (method, path, _), answer in zip(tries, found["requests"], strict=True) if answer[0] != 403]
    assert passed == []
    assert found["heard"] == [403, 403, "auth_success"]
    assert len(way.refused) == len(tries) + 1
    assert any(line == f"GET /api/flow_runs/{theirs}: not for a host" for line in way.refused)
    assert not any("evil" in line or "mine" in line or "click" in line for line in way.refused)  # no bodies
    assert read(UUID(theirs)).state_name == read(UUID(run)).state_name == "Scheduled"


def test_what_is_needed_passes_and_no_more_of_it(way: Way, other: Way) -> None:
    run = way.scope.run
    now, later = "2026-11-26T12:00:00Z", "2036-01-01 00:00:00+00:00"
    found = way.tries(
        ("GET", "/admin/version", None),
        ("GET", "/csrf-token?client=x", None),
        ("GET", "/admin/storage", None),
        ("GET", f"/flow_runs/{run}", None),
        ("GET", f"/deployments/{way.scope.deployment}", None),
        ("POST", "/work_pools/gpu/get_scheduled_flow_runs", {"work_queue_names": [way.scope.queue], "scheduled_before": later}),
        ("POST", "/work_pools/gpu/workers/heartbeat", {"name": way.scope.worker, "heartbeat_interval_seconds": 30.0, "return_id": True}),
        ("POST", "/flow_runs/filter", {"flow_runs": {"id": {"any_": [other.scope.run]}}, "limit": 200}),
        ("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "PENDING", "name": "Pending", "data": {"type": "evil"}}}),
        ("PATCH", f"/flow_runs/{run}", {"infrastructure_pid": "7", "name": "mine", "parameters": {"job": "x"}, "tags": ["x"]}),
        ("PATCH", f"/flow_runs/{run}/labels", {"prefect.worker.name": "w", "evil": "x"}),
        ("POST", "/logs/", [{"name": "n", "level": 20, "message": "hello", "timestamp": now, "flow_run_id": run, "task_run_id": None}]),
        ("POST", "/logs/", [{"name": "n", "level": 20, "message": "of the worker", "timestamp": now}]),
        ("POST", "/artifacts/", {"type": "progress", "data": 1.0, "key": "upload-progress", "flow_run_id": run, "task_run_id": None}),
    )  # fmt: skip
    assert [status for status, _ in found["requests"]] == [200, 422, 200, 200, 200, 200, 204, 200, 201, 204, 204, 201, 201, 201]
    assert json.loads(found["requests"][7][1]) == []  # it asked for another's, and was told of its own that is to be cancelled
    seen = read(UUID(run))
    assert (seen.state_name, seen.parameters, seen.infrastructure_pid) == ("Pending", {"job": "job-box-7"}, "7")
    assert seen.state is not None
    assert seen.state.data is None
    assert (seen.name == "mine", "x" in seen.tags, "evil" in seen.labels) == (False, False, False)
    made = json.loads(found["requests"][13][1])["id"]
    described = {"data": 50.0, "description": "half ![x](http://evil.example/p.png) <b>"}
    assert way.tries(("PATCH", f"/artifacts/{made}", described))["requests"][0][0] == 204
    with get_client(sync_client=True) as client:
        (shown,) = [one for one in client.read_artifacts() if str(one.id) == made]
    assert shown.description == "half x(http: evil.example/p.png) b"  # Prefect shows it as Markdown
    assert other.tries(("PATCH", f"/artifacts/{made}", {"data": 99.0}))["requests"][0][0] == 403


def test_events_are_of_this_run_alone(way: Way, other: Way) -> None:
    mine, theirs = str(uuid.uuid4()), str(uuid.uuid4())
    other.tries(events=[task_event(theirs, other.scope.run, "Running")])
    until(lambda: len(tasks_of(UUID(other.scope.run))) == 1, "the other run's task")
    way.refused.clear()
    way.tries(
        events=[
            event("torpor.spot-interruption", "torpor.instance.box"),
            event("prefect.flow-run.heartbeat", f"prefect.flow-run.{other.scope.run}"),
            event("prefect.flow-run.Completed", f"prefect.flow-run.{way.scope.run}"),
            event("prefect.worker.started", f"prefect.worker.process.{other.scope.worker}"),
            task_event(theirs, other.scope.run, "Failed"),
            task_event(theirs, way.scope.run, "Failed"),
            task_event(mine, other.scope.run, "Completed", id=theirs, flow_run_id=other.scope.run),
        ]
    )
    until(lambda: len(tasks_of(UUID(way.scope.run))) == 1, "this run's task")
    assert [(str(task.id), task.state_name) for task in tasks_of(UUID(way.scope.run))] == [(mine, "Completed")]
    assert [(str(task.id), task.state_name) for task in tasks_of(UUID(other.scope.run))] == [(theirs, "Running")]
    assert len(way.refused) == 6
    log = [
        {"name": "n", "level": 20, "message": "x", "timestamp": "2026-11-26T12:00:00Z", "flow_run_id": way.scope.run, "task_run_id": theirs}
    ]
    assert way.tries(("POST", "/logs/", log))["requests"][0][0] == 403
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/events/filter", json={"filter": {"event": {"name": ["torpor.spot-interruption"]}}}).json()
    assert found["events"] == []


def test_another_password_opens_nothing(way: Way, other: Way) -> None:
    found = way.tries(("GET", "/admin/version", None), password=other.proxy.password)
    assert found["requests"][0][0] == 403
