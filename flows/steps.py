"""How flows run tasks: submitted to threads, waited for on the event loop, so that heartbeats and cancellation go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, TypeVar

from prefect import Task
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.logging import get_run_logger
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from tasks.session import Session
from tasks.stages import Staged
from torpor.control.places import Place
from torpor.control.repository import Repository
from torpor.plan.offers import LEAST_BOOT, LEAST_LEASE

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


async def wait_until(session: Session, until: float, why: str) -> None:
    """Wait for a time (seconds since 1970), unless it is over; said once, and ended by a stop."""
    left = until - session.repository.clock.now()
    if left > 0:
        session.note(f"Waiting {left:.0f} s, {why}.")
    while until > session.repository.clock.now():
        session.check()
        await asyncio.sleep(min(0.5, left))


Runner = Literal["ssh", "gpu-pool"]
Some = Annotated[int, Field(ge=1)]  # seconds, or rounds: none at all would be a slip
Boot = Annotated[int, Field(ge=LEAST_BOOT)]
Lease = Annotated[int, Field(ge=LEAST_LEASE)]


async def choose(runner: Runner, session: Session) -> None:
    """Let the machine's long jobs run as flow runs of the pool `gpu` on it, if that is what was asked for. Raises `UsageError`."""
    if runner == "gpu-pool":
        from flows.pool import enter

        await asyncio.to_thread(enter, session)


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
