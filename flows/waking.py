"""Waking one snapshot on one machine: what the flows wake and replicate do for each machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

import msgspec

from flows import steps
from tasks import hooks, stages
from tasks import machine as machines
from tasks import restore as restores
from tasks.session import Session
from torpor.clock import SYSTEM
from torpor.control import catalogue
from torpor.control.provision import Demand, Limits, Provisioned
from torpor.control.repository import Repository
from torpor.control.restores import Options
from torpor.errors import HookFailed, Interrupted, MachineError, TorporError
from torpor.jobs import RestoreResult
from torpor.plan.offers import GB

T = TypeVar("T")

STOPPING = 90.0  # seconds for what a run has in hand when its machine's lease is out


class Stopped(Protocol):
    """What can be told to stop."""

    def stop(self) -> None: ...


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Where to wake: on the machine at `on`, or on one that is rented for a `demand`; else on a new local one.

    `after`: a command that the machine runs once all is there, for `after_seconds` at most.
    """

    on: str = ""
    demand: Demand | None = None
    limits: Limits = msgspec.field(default_factory=Limits)
    options: Options = msgspec.field(default_factory=Options)
    after: str = ""
    runner: steps.Runner = "ssh"
    after_seconds: float = 600.0


class Sizes(msgspec.Struct, frozen=True):
    """`stored`: bytes that a wake fetches; `disk`: bytes that a new machine's disk should have: a fifth more than the files, and 10 GB."""

    stored: int
    disk: int


def sizes(repository: Repository, snapshot: str) -> Sizes:
    manifest = catalogue.load(repository, snapshot).manifest
    return Sizes(manifest.stored_bytes, int(manifest.raw_bytes * 1.2) + 10 * GB)


async def wake_one(session: Session, wanted: str, asked: Asked) -> dict[str, Any]:
    """Make or find the machine, restore, run the hook, hand it over. A machine that was rented for this is ended if anything fails, and
    when its lease or its money is used up."""
    began = time.monotonic()
    rents = asked.demand is not None and not asked.on
    try:
        if asked.demand is not None and not asked.on:
            made = await steps.done(machines.rent.submit(session, asked.demand, asked.limits))
            left = made.deadline - SYSTEM.now()
            return await in_time(session, made.machine.address, left, _bring(session, wanted, asked, made.machine.address, made, began))
        address = asked.on or machines.fresh_address(session.repository.home.machines)
        await steps.done(machines.provision.submit(session, address))
        return await _bring(session, wanted, asked, address, None, began)
    except BaseException as error:
        if rents:
            session.stop()  # first: a `rent` that is still under way then ends what it makes
            if (found := session.made) is not None:
                # In a thread: other machines of this run have leases to watch. To the end, whatever else comes.
                ended = await asyncio.shield(asyncio.to_thread(machines.give_up, session, found, error))
                if ended and isinstance(error, TorporError):  # its own words are of a machine that stays
                    error.safe = f"{found.machine.address} was destroyed again: nothing is left that costs. The snapshot is untouched."
                    if isinstance(error, Interrupted):
                        error.remedy = "Run it again: a machine is rented anew."
                    elif isinstance(error, HookFailed):
                        error.remedy = "Try the command on a machine that stays, such as one that is woken without it."
        elif isinstance(error, TorporError) and session.writing:
            session.note(f"The machine keeps what was written so far; {wanted} goes on from there when it is woken on it again.")
        raise


async def _bring(
    session: Session, wanted: str, asked: Asked, address: str, made: Provisioned | None, began: float
) -> dict[str, Any]:  # fmt: skip
    """All that comes after there is a machine."""
    if session.place.far is not None:
        await steps.done(machines.bootstrap.submit(session))
    await steps.choose(asked.runner, session)
    session.writing = True
    provisioned = time.monotonic() - began
    watching = steps.follow(session, stages.OF_RESTORE)
    done = await steps.job(session, restores.restore.submit(session, wanted, asked.options), watching)
    if asked.after:
        await steps.done(hooks.after.submit(session, asked.after, asked.after_seconds))
    if made is not None:
        await steps.done(machines.hand_over.submit(session, made))
    return report(address, done, made, provisioned, time.monotonic() - began) | {"stages": steps.stage_figures(session)}


async def in_time(session: Stopped, address: str, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The work's result, if it comes within the machine's lease. Else the run is stopped; what does not end then is left to itself, since
    without its machine it ends, too. Raises `MachineError`, and what the work raises."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, whatever becomes of it
    try:
        if not await _ends(task, max(0.0, seconds)):
            session.stop()
            if not await _ends(task, STOPPING) or task.exception() is not None:
                raise MachineError(
                    f"{address} was not ready when its lease ran out, or the money that it may cost.",
                    safe="The snapshot is untouched.",
                    remedy="Wake it again with a longer --lease or more to spend, or on a machine with a faster link.",
                )
        return task.result()
    finally:
        task.cancel()


async def _ends(task: asyncio.Future[T], seconds: float) -> bool:
    done, _ = await asyncio.wait({task}, timeout=seconds)
    return bool(done)


def report(machine: str, done: RestoreResult, made: Provisioned | None, provisioned: float, seconds: float) -> dict[str, Any]:
    """What a wake returns. Times in seconds since it began; `restore_seconds` of the restore alone; `price`: dollars an hour."""
    return {
        "machine": machine,
        "snapshot": done.snapshot,
        "files": done.files,
        "raw_bytes": done.raw_bytes,
        "fetched_bytes": done.fetched_bytes,
        "written_files": done.written_files,
        "written_bytes": done.written_bytes,
        "kept_files": done.kept_files,
        "removed": done.removed,
        "requests": done.requests,
        "notes": list(done.notes),
        "price": made.offer.price if made is not None else None,
        "lease": made.lease.id if made is not None else None,
        "tried": list(made.tried) if made is not None else [],
        "provision_seconds": round(provisioned, 3),
        "usable_seconds": round(provisioned + done.usable_seconds, 3),
        "restore_seconds": done.seconds,
        "seconds": round(seconds, 3),
    }
