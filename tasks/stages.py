"""Tasks that stand for the stages of a job that streams through all of them at once: each waits for its own to end."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar, cast

from prefect import Task, task
from prefect.states import Completed

from tasks import watch
from tasks.artifacts import Progress
from tasks.board import Figures, StageBoard
from tasks.policy import ONCE

T = TypeVar("T")

EVERY = 1.0  # seconds between two updates of a progress artifact


class Staged(Protocol):
    """What the tasks of a job's stages need of a run: tasks.session's on the control side, tasks.parts' on a host."""

    board: StageBoard

    def begin(self) -> StageBoard:
        """A board for the next job."""

    def step(self, name: str = "") -> AbstractContextManager[None]:
        """One task's work."""


def follow(board: StageBoard, stage: str, label: str) -> Figures:
    """Wait until a stage is over, and keep its progress artifact up to date. Raises what made the job fail."""
    progress = Progress(label)
    while True:
        figures, over = board.wait(stage, EVERY)
        progress.show(100.0 if over else figures.percent, str(figures))
        if over:
            return figures


def completed(name: str, message: str, data: T) -> T:
    """The end of a task that people see: its figures stand on the timeline. Whoever waits for the task gets `data`."""
    watch.tell(watch.StageState(name, "completed", message))
    state: Any = Completed(message=message, data=data)
    return cast(T, state)


def _stage(name: str, of_job: str) -> Task[[Staged], Figures]:
    """A task called `name` for the job's stage `of_job`."""

    @task(name=name, task_run_name=name, description=f"Waits for stage {of_job} of the running job.", **ONCE)
    def wait(session: Staged) -> Figures:
        with session.step(name):
            figures = follow(session.board, of_job, name)
        return completed(name, str(figures), figures)

    return wait


scan = _stage("scan", "scan")
compress = _stage("compress", "compress")
upload = _stage("upload", "upload")
download = _stage("download", "download")
decompress = _stage("decompress", "decompress")
extract = _stage("extract", "write")

OF_SNAPSHOT = (scan, compress, upload)
OF_RESTORE = (download, decompress, extract)
