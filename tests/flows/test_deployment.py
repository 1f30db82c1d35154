"""prefect.yaml and deployments/: they parse, fit the flows, and run through a worker that was started elsewhere."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events.schemas.automations import AutomationCore
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.states import Cancelling
from prefect.workers.process import ProcessWorker

from flows.hibernate import hibernate
from tests.flows.field import MIB, Field, fill, flow_run, newest, until
from torpor.testing.compare import compare_trees

ROOT = Path(__file__).parents[2]


def parsed(name: str) -> dict[str, Any]:
    """A YAML file, read by what Prefect reads it with; that has no types."""
    found: dict[str, Any] = import_module("yaml").safe_load((ROOT / name).read_text())
    return found


DEPLOYMENTS: list[dict[str, Any]] = parsed("prefect.yaml")["deployments"]
EXAMPLES = {
    "flows.hibernate.hibernate": {"machine": "local:x", "accept": ["a"], "ignore_changes": ["*.log"], "labels": {"a": "b"}},
    "flows.wake.wake": {"snapshot": "latest", "on": "local:x"},
    "flows.replicate.replicate": {"on": ["local:x"], "count": 2, "gpu": "RTX 4090", "max_price": 0.5},
    "flows.sweep.sweep": {"dry_run": True},
    "flows.on_host.host_job": {"job": "20260101T000000000-00000000-00000000"},
}
CHOICES = {
    "flows.hibernate.hibernate": {"verify": ["sample", "full"], "codec": ["auto", "zstd", "lz4", "raw"]},
    "flows.wake.wake": {
        "mode": ["new", "merge", "replace"],
        "owners": ["numbers", "names", "none"],
        "provider": ["", "vast", "gce"],
    },
    "flows.replicate.replicate": {"mode": ["new", "merge", "replace"], "provider": ["", "vast", "gce"]},
    "flows.sweep.sweep": {"provider": ["", "vast", "gce"]},
    "flows.on_host.host_job": {},
}


def _flow(entrypoint: str) -> Flow[..., Any]:
    flow: Flow[..., Any] = load_flow_from_entrypoint(entrypoint)
    return flow


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["entrypoint"])
def test_a_deployment_fits_its_flow(deployment: dict[str, Any]) -> None:
    flow = _flow(deployment["entrypoint"])
    flow.validate_parameters(EXAMPLES[deployment["entrypoint"]] | deployment["parameters"])
    properties = flow.parameters.properties
    assert all(one.get("description") for one in properties.values())  # the form's help
    assert {name: properties[name]["enum"] for name in CHOICES[deployment["entrypoint"]]} == CHOICES[deployment["entrypoint"]]
    assert deployment["description"]
    if deployment["name"] == "gpu":  # its runs are made one by one, by who waits for them
        assert (deployment["work_pool"]["name"], deployment["pull"]) == ("gpu", [])
        assert "concurrency_limit" not in deployment  # its leases would have to pass the proxy
        return
    assert deployment["work_pool"]["name"] == "control"
    waits = "CANCEL_NEW" if deployment.get("schedules") else "ENQUEUE"
    assert deployment["concurrency_limit"]["collision_strategy"] == waits


def test_hooks_are_named_as_workers_call_them() -> None:
    for deployment in DEPLOYMENTS:
        flow = _flow(deployment["entrypoint"])
        for hook in [*flow.on_failure_hooks, *flow.on_crashed_hooks, *flow.on_cancellation_hooks]:
            assert list(inspect.signature(hook).parameters) == ["flow", "flow_run", "state"]


def test_automations_parse() -> None:
    for automation in parsed("deployments/automations.yaml")["automations"]:
        AutomationCore.model_validate(automation)


def prefect(*arguments: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    done = subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def deployed(api: str) -> str:
    """Both deployments, from a checkout's root, as prefect.yaml says."""
    asyncio.run(make_pools("control", "gpu"))
    prefect("deploy", "--all", folder=ROOT, environment=dict(os.environ) | {"PYTHONPATH": str(ROOT)})
    return api


async def make_pools(*names: str) -> None:
    """What `prefect work-pool create --type process` does, without two starts of it."""
    template = ProcessWorker.get_default_base_job_template()
    async with get_client() as client:
        for name in names:
            pool = WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template)
            await client.create_work_pool(pool, overwrite=True)  # another module may have made one


def schedule(deployment: str, parameters: dict[str, Any]) -> UUID:
    async def create() -> UUID:
        async with get_client() as client:
            found = await client.read_deployment_by_name(deployment)
            return (await client.create_flow_run_from_deployment(found.id, parameters=parameters)).id

    return asyncio.run(create())


@contextmanager
def working(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the pool, told nothing of this checkout and started away from it: it takes what is scheduled, and ends."""
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "control", "--run-once"]
    with open(folder / "worker.log", "wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.usefixtures("deployed")
def test_a_worker_runs_it_from_anywhere(field: Field, original: Path, tmp_path: Path) -> None:
    box = field.machine("worked", original)
    schedule("hibernate/machine", {"machine": "local:worked"})
    with working(tmp_path / "elsewhere") as worker:
        assert worker.wait(90) == 0, (tmp_path / "elsewhere" / "worker.log").read_text()
    seen = newest("hibernate local:worked")
    assert (seen.state, box.status().state) == ("Completed", "destroyed")
    assert {task.state_name for task in seen.tasks.values()} == {"Completed"}


def cancel(run: UUID) -> None:
    """What the button does."""

    async def ask() -> None:
        async with get_client() as client:
            await client.set_flow_run_state(run, Cancelling())

    asyncio.run(ask())


def engines() -> list[int]:
    """Processes of this test run that serve jobs, whoever started them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                home = (entry / "environ").read_bytes()
            except OSError:
                continue
            if b"torpor.remote.serve" in command and os.environ["HOME"].encode() in home:
                found.append(int(entry.name))
    return found


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


@contextmanager
def halted(pid: int) -> Iterator[None]:
    """A process that does nothing while the block runs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: is_stopped(pid), "the stop of every thread")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def is_stopped(pid: int) -> bool:
    """Whether every thread of a process is: one that is not would still take a signal."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all((thread / "stat").read_text().rsplit(")", 1)[1].split()[0] == "T" for thread in threads)


def told_to_end(pid: int) -> bool:
    """Whether SIGTERM waits for a process that is stopped."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(("SigPnd", "ShdPnd")) and int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return True
    return False


@pytest.mark.parametrize(("end", "state"), [("cancel", "Cancelled"), ("SIGTERM", "Crashed")])
@pytest.mark.usefixtures("deployed")
def test_a_run_that_is_ended_leaves_the_machine_and_no_engine(field: Field, tmp_path: Path, end: str, state: str) -> None:
    original = fill(tmp_path / "large", 32 * MIB)
    box = field.machine(f"ended-{end}", original)
    run = schedule("hibernate/machine", {"machine": box.address})
    with working(tmp_path / "elsewhere") as worker:
        until(lambda: bool(field.objects("packs")), "the first pack")
        (engine,) = engines()
        with halted(engine):  # so that it is at work when the run is ended, however fast this computer is
            if end == "cancel":
                cancel(run)
            else:
                os.kill(parent(engine), signal.SIGTERM)
            until(lambda: told_to_end(engine), "SIGTERM for the engine")
        until(lambda: not engines(), "the engine's end")
        assert worker.wait(90) == 0, (tmp_path / "elsewhere" / "worker.log").read_text()
    assert newest(f"hibernate {box.address}").state == state
    assert box.status().state == "running"
    assert compare_trees(original, box.workspace) == []
    assert field.objects("receipts") == []
    until(lambda: any(f"{box.address} is running" in line for line in newest(f"hibernate {box.address}").logs), "the hook's line")

    again = flow_run(hibernate(box.address))
    assert again["destroyed"] is True
    assert 0 < again["new_bytes"] < again["stored_bytes"]
