"""The pool's own test gear: a host behind a tunnel, and what the API knows of its runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    WorkQueueFilter,
    WorkQueueFilterName,
)
from prefect.client.schemas.objects import FlowRun, TaskRun

from flows.pool import GpuPool
from tests.emulators.sshd import Sshd
from tests.flows.field import until
from torpor.events import Event, Listener, ignore
from torpor.remote.host import Subprocess
from torpor.ssh.connect import SshShell
from torpor.ssh.tunnel import Tunnel

ROOT = Path(__file__).parents[2]
PYTHON = ["env", f"PYTHONPATH={ROOT}", sys.executable]


@contextmanager
def made_pool(machine: Sshd, python: Sequence[str] = PYTHON) -> Iterator[GpuPool]:
    """The machine's queue is called box-1."""
    shell = SshShell(machine.target)

    @contextmanager
    def tunnel(here: int) -> Iterator[Callable[[], int]]:
        made = Tunnel(machine.target, here)
        made.open()
        try:
            yield lambda: made.port
        finally:
            made.close()

    try:
        yield GpuPool(shell, tunnel, python, "box-1", Subprocess())
    finally:
        shell.close()


class Heard:
    """What a job said, and the flow run that it was."""

    def __init__(self, then: Listener = ignore) -> None:
        self.events: list[Event] = []
        self._then = then

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._then(event)

    @property
    def begun(self) -> bool:
        return any("as flow run" in event.text for event in self.events)

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


def runs_in(queue: str) -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(work_queue_filter=WorkQueueFilter(name=WorkQueueFilterName(any_=[queue])))


def states(run: UUID) -> dict[str, str | None]:
    """Of each task, once all have ended."""

    def over() -> bool:
        return all(task.state is not None and task.state.is_final() for task in tasks_of(run))

    until(over, "the end of all tasks", 120)
    return {task.name: task.state_name for task in tasks_of(run)}
