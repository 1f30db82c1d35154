"""A machine as a worker of the pool gpu: a real server with a password, a real sshd, a real worker behind the tunnel and the proxy."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, TaskRun

from flows.pool import GpuPool
from tests.emulators.sshd import Sshd
from tests.flows.field import Field, fill, until
from tests.flows.prefect_server import PASSWORD, guarded
from torpor.control import restores, snapshots
from torpor.control.snapshots import Taken
from torpor.events import Event, ignore
from torpor.jobs import Scope
from torpor.remote.host import Subprocess
from torpor.ssh.connect import SshShell
from torpor.ssh.tunnel import Tunnel
from torpor.testing.compare import compare_trees

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with guarded(tmp_path_factory.mktemp("guarded")) as url:
        yield url


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("box")) as made:
        yield made


@pytest.fixture
def pool(machine: Sshd, server: str) -> Iterator[GpuPool]:
    shell = SshShell(machine.target)

    @contextmanager
    def tunnel(here: int) -> Iterator[Any]:
        made = Tunnel(machine.target, here)
        made.open()
        try:
            yield lambda: made.port
        finally:
            made.close()

    yield GpuPool(shell, tunnel, ["env", f"PYTHONPATH={ROOT}", sys.executable], "box-1", Subprocess())
    shell.close()


class Heard:
    """What a job said, and the flow run that it was."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def run(self) -> UUID:
        (note,) = [event.text for event in self.events if "as flow run" in event.text]
        return UUID(note.split("as flow run ")[1].split()[0])


def tasks_of(run: UUID) -> list[TaskRun]:
    with get_client(sync_client=True) as client:
        return client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])))


def read(run: UUID) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run)


def states(run: UUID) -> dict[str, str | None]:
    """Of each task, once all have ended."""

    def over() -> bool:
        return all(task.state is not None and task.state.is_final() for task in tasks_of(run))

    until(over, "the end of all tasks")
    return {task.name: task.state_name for task in tasks_of(run)}


def test_it_is_the_job_over_ssh(pool: GpuPool, machine: Sshd, field: Field, original: Path, tmp_path: Path) -> None:
    repository = field.repository()
    scope = Scope(roots=[os.fsencode(original)])
    heard = Heard()
    by_pool = snapshots.take(repository, pool, scope, os.fsencode(tmp_path / "state"), snapshots.Options(), heard)
    assert read(heard.run).state_name == "Completed"
    assert states(heard.run) == dict.fromkeys(["snapshot", "scan", "compress", "upload"], "Completed")
