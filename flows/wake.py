"""Wake: provision → download → decompress → extract, on another machine."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

from prefect import flow, get_run_logger

from flows import steps
from flows.hooks import say_what_runs
from tasks import artifacts, stages
from tasks import machine as machines
from tasks import restore as restores
from torpor.control import fallback
from torpor.control.restores import Options
from torpor.errors import TorporError
from torpor.jobs import RestoreResult
from torpor.settings import load

MIB = 1024 * 1024


@flow(
    name="wake",
    flow_run_name="wake {snapshot}",
    task_runner=steps.THREADS,
    persist_result=False,
    on_failure=[say_what_runs],
    on_crashed=[say_what_runs],
    on_cancellation=[say_what_runs],
)
async def wake(
    snapshot: str = "latest",
    on: str | None = None,
    storage: str | None = None,
    mode: Literal["new", "merge", "replace"] = "new",
    owners: Literal["numbers", "names", "none"] = "numbers",
    setuid: bool = False,
    memory_mib: int = 512,
) -> dict[str, Any]:
    """Wake a snapshot on a machine: make the machine, and bring the workspace back. It is usable before it is complete.

    Args:
        snapshot: Id of the snapshot, the beginning of one, or "latest".
        on: Address of the machine, such as local:NAME, made if it is not there; without it a new local machine.
        storage: URL of the repository; without it TORPOR_STORAGE of the process that runs the flow.
        mode: new: the workspace must be empty. merge: files that differ are written, others stay. replace: others are removed.
        owners: Who owns the files: the same numbers, the same names, or whoever restores them.
        setuid: Give setuid and setgid bits back.
        memory_mib: Memory that the engine on the machine may use, in MiB.
    """
    began = time.monotonic()
    repository, wanted = await asyncio.to_thread(fallback.find, load(storage=storage), snapshot, get_run_logger().warning)
    options = Options(mode=mode, owners=owners, setuid=setuid, memory=memory_mib * MIB)
    async with steps.session_on(repository) as session:
        address = on or machines.fresh_address(repository.home.machines)
        machine = await steps.done(machines.provision.submit(session, address))
        provisioned = time.monotonic() - began
        watching = steps.follow(session, stages.OF_RESTORE)
        try:
            done = await steps.job(session, restores.restore.submit(session, wanted, options), watching)
        except TorporError:
            session.note(f"{machine} keeps what was written so far; to go on there: wake {wanted} on {machine}.")
            raise
        result = report(machine, done, provisioned, time.monotonic() - began) | {"stages": steps.stage_figures(session)}
        await artifacts.table("wake", artifacts.woken(result), f"{wanted} on {machine}")
    return result


def report(machine: str, done: RestoreResult, provisioned: float, seconds: float) -> dict[str, Any]:
    """What the run returns. Times in seconds since the flow began; `restore_seconds` of the restore alone."""
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
        "usable_seconds": round(provisioned + done.usable_seconds, 3),
        "restore_seconds": done.seconds,
        "seconds": round(seconds, 3),
    }
