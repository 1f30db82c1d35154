"""How flows run tasks: submitted to threads, waited for on the event loop, so that heartbeats and cancellation go on."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

from prefect import Task
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.logging import get_run_logger
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.session import Session
from tasks.stages import Staged
from torpor.control.places import Place
from torpor.control.repository import Repository
from torpor.errors import UsageError

T = TypeVar("T")

THREADS: Any = ThreadPoolTaskRunner(max_workers=8)  # a job, its three stages, and room


async def done(future: PrefectFuture[T]) -> T:
    """A task's result. Raises what the task raised."""
    if not isinstance(future, PrefectConcurrentFuture):
        raise TypeError("flows here run with threads")
    state = await asyncio.wrap_future(future.wrapped_future)
    result: T = await state.aresult()
    return result


async def job(session: Staged, work: PrefectFuture[T], stages: Sequence[PrefectFuture[Any]]) -> T:
    """Wait for a job, then for the tasks of its stages: they end with it, whatever its end."""
    try:
        result = await done(work)
    except BaseException as error:
        session.board.finish(error)
        raise
    session.board.finish()
    for stage in stages:
        await done(stage)
    return result


def follow(session: Staged, stages: Sequence[Task[[Staged], Any]]) -> list[PrefectFuture[Any]]:
    """Submit the tasks of a job's stages, on a board of their own."""
    session.begin()
    return [stage.submit(session) for stage in stages]


def stage_figures(session: Session) -> dict[str, dict[str, Any]]:
    """Every stage of the run: `done` in `unit`, and seconds from its start to its end."""
    return {name: {"done": one.done, "unit": one.unit, "seconds": one.seconds} for name, one in session.end().items()}


Runner = Literal["ssh", "gpu-pool"]


def choose(runner: Runner, session: Session) -> None:
    """Let the machine's long jobs run as flow runs of the pool `gpu` on it, if that is what was asked for. Raises `UsageError`."""
    if runner == "ssh":
        return
    place = session.place
    if place.far is None:
        raise UsageError(
            f"{place.address or 'A folder'} is on this computer, which is no worker of the pool gpu.",
            safe="Nothing was changed.",
            remedy="Leave the runner at ssh.",
        )
    from flows.pool import GpuPool

    python = shlex.split(session.repository.settings.pool_python)
    session.work_through(GpuPool(place.far.shell, place.far.tunnel(), python, queue_of(place.address), place.far))


def queue_of(address: str) -> str:
    """The name of a machine's queue: its address with what Prefect takes in names, and a digest, since two may look the same then."""
    return f"{re.sub(r'[^a-z0-9]+', '-', address.lower()).strip('-')[:60]}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"


@asynccontextmanager
async def session_on(repository: Repository, place: Place | None = None, name: str = "") -> AsyncIterator[Session]:
    """A session that is stopped when the flow ends in any way: no engine outlives its run. `name` tells it from others of the run."""
    logger = get_run_logger()
    session = Session(repository, lambda level, text: logger.log(logging.getLevelNamesMapping()[level.upper()], text), place, name)
    try:
        yield session
    except BaseException as error:
        session.stop()
        session.board.finish(error)
        raise
