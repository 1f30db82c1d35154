"""A job on the rented host itself, as tasks there: the same engine and the same job as over SSH, with its stages to be seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect import Task, task

from tasks import stages, watch
from tasks.board import StageBoard
from tasks.policy import ONCE, POLICY
from tasks.stages import Staged
from torpor.errors import HostFailed, Interrupted, TorporError, UsageError
from torpor.events import Event
from torpor.jobs import RestoreJob, Result, SnapshotJob
from torpor.remote import engine
from torpor.remote.jobsocket import Visit


class Part:
    """What the tasks of one job share. Not a dataclass: Prefect looks for futures in those, and this holds a job."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.board = StageBoard()

    def __repr__(self) -> str:
        return "Part(hidden)"

    def begin(self) -> StageBoard:
        return self.board

    def hear(self, event: Event) -> None:
        self.visit.tell(event)
        self.board.listen(event)

    @contextmanager
    def step(self, name: str = "") -> Iterator[None]:
        if name:
            watch.tell(watch.StageState(name, "running"))
        yield


def _run(part: Part) -> Result:
    return engine.run(part.visit.job, part.hear, part.visit.ask)


@task(name="restore", task_run_name="restore", **POLICY)
def restore(part: Part) -> Result:
    """Run a restore's job. What was written stays, so another attempt goes on from there."""
    return _run(part)


@task(name="snapshot", task_run_name="snapshot", **ONCE)
def snapshot(part: Part) -> Result:
    """Run a snapshot's job. Another attempt has a name, a claim and a grant of its own, so the control side begins it."""
    return _run(part)


Work = tuple[Task[[Part], Result], tuple[Task[[Staged], Any], ...]]


def of(part: Part) -> Work:
    """The task that does the job, and those of its stages. Raises `UsageError` for jobs that are too short for this."""
    if isinstance(part.visit.job, SnapshotJob):
        return snapshot, stages.OF_SNAPSHOT
    if isinstance(part.visit.job, RestoreJob):
        return restore, stages.OF_RESTORE
    raise UsageError(f"{type(part.visit.job).__name__} needs no flow run.")


def told(error: BaseException, visit: Visit) -> TorporError:
    """What the control side is told of it."""
    if isinstance(error, TorporError):
        return error
    if visit.stopped or not isinstance(error, Exception):  # whatever an engine says that is stopped in the middle; or a cancelled run
        return Interrupted("The job on the host was stopped.", safe="What reached the store is kept.", remedy="Run it again.")
    return HostFailed(f"The engine on the host failed: {type(error).__name__}: {error}.", safe="What reached the store is kept.")
