"""Waking one snapshot on one machine: what the flows wake and replicate do for each machine."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from flows import steps
from tasks import hooks, stages
from tasks import machine as machines
from tasks import restore as restores
from tasks.session import Session
from torpor.control import catalogue
from torpor.control.provision import Demand, Limits, Provisioned
from torpor.control.repository import Repository
from torpor.control.restores import Options
from torpor.errors import Interrupted, TorporError
from torpor.jobs import RestoreResult
from torpor.plan.offers import GB


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
    """Make or find the machine, restore, run the hook, hand it over. A machine that was rented for this is ended if anything fails."""
    began = time.monotonic()
    made: Provisioned | None = None
    writing = False
    try:
        if asked.demand is not None and not asked.on:
            made = await steps.done(machines.rent.submit(session, asked.demand, asked.limits))
            address = made.machine.address
        else:
            address = asked.on or machines.fresh_address(session.repository.home.machines)
            await steps.done(machines.provision.submit(session, address))
        if session.place.far is not None:
            await steps.done(machines.bootstrap.submit(session))
        await steps.choose(asked.runner, session)
        provisioned = time.monotonic() - began
        writing = True
        watching = steps.follow(session, stages.OF_RESTORE)
        done = await steps.job(session, restores.restore.submit(session, wanted, asked.options), watching)
        if asked.after:
            await steps.done(hooks.after.submit(session, asked.after, asked.after_seconds))
        if made is not None:
            await steps.done(machines.hand_over.submit(session, made))
    except BaseException as error:
        if made is not None:
            left = machines.give_up(session, made, getattr(error, "what", "") or type(error).__name__)
            if isinstance(error, Interrupted):  # its own words are of a machine that stays
                raise Interrupted(error.what, safe=left, remedy="Run it again: a machine is rented anew.") from error
            session.note(left)
        elif isinstance(error, TorporError) and writing:
            session.note(f"The machine keeps what was written so far; {wanted} goes on from there when it is woken on it again.")
        raise
    return report(address, done, made, provisioned, time.monotonic() - began) | {"stages": steps.stage_figures(session)}


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
