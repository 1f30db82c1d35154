"""Hibernate: snapshot → upload → verify → destroy. The machine goes only on proof that it can be brought back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Literal

from prefect import flow

from flows import steps
from flows.hooks import say_what_runs
from tasks import artifacts, hooks, stages
from tasks import machine as machines
from tasks import snapshot as snapshots
from tasks import verify as verifying
from tasks.session import Session
from torpor.clock import SYSTEM
from torpor.control import destroy, leases, places
from torpor.control.destroy import LEFT_RUNNING, Acceptance
from torpor.control.receipts import Depth, Verified
from torpor.control.repository import open_repository
from torpor.control.snapshots import Options, Taken
from torpor.errors import DestroyRefused, SourceChanged
from torpor.jobs import PATIENCE, Scope
from torpor.settings import load

MIB = 1024 * 1024
UNENDED = "The proof stands: end it at whoever rents it out, or run this again with wipe, which deletes its workspace."


@flow(
    name="hibernate",
    flow_run_name="hibernate {machine}",
    task_runner=steps.THREADS,
    persist_result=False,
    on_failure=[say_what_runs],
    on_crashed=[say_what_runs],
    on_cancellation=[say_what_runs],
)
async def hibernate(
    machine: str,
    storage: str | None = None,
    destroy_after: bool = True,
    verify: Literal["sample", "full"] = "full",
    name: str = "",
    labels: dict[str, str] | None = None,
    excludes: Sequence[str] = (),
    default_excludes: bool = True,
    across_file_systems: bool = False,
    codec: Literal["auto", "zstd", "lz4", "raw"] = "auto",
    accept: Sequence[str] = (),
    ignore_changes: Sequence[str] = (),
    memory_mib: int = 512,
    rounds: steps.Some = 3,
    before: str = "",
    before_seconds: steps.Some = 600,
    wipe: bool = False,
    rate: int = 0,
    patience: float = PATIENCE,
    tune_network: bool = False,
    runner: steps.Runner = "ssh",
) -> dict[str, Any]:
    """Put a machine to sleep: save its workspace in object storage, prove that it can be restored, and destroy the machine.

    Args:
        machine: Address of the machine, such as local:NAME, vast:ID or ssh://user@host:port/path.
        storage: URL of the repository; without it TORPOR_STORAGE of the process that runs the flow.
        destroy_after: Destroy the machine once the proof is there. Off: only save and verify; the machine stays.
        verify: How much is read back from storage. full: every byte. sample: some packs, the newest among them.
        name: A name for the snapshot.
        labels: Labels for the snapshot.
        excludes: What to leave out, in gitignore's syntax.
        default_excludes: Leave out what is made anew anyway, such as __pycache__.
        across_file_systems: Enter other file systems that are mounted below. Off: the machine is kept if there are any.
        codec: How to compress. auto chooses by content, piece by piece.
        accept: Files that may be lost although they could not be saved as they are: paths, or "all".
        ignore_changes: Changes after the snapshot that do not count: patterns such as *.log.
        memory_mib: Memory that the engine on the machine may use, in MiB.
        rounds: How many snapshots to take, each of what changed during the one before, until nothing changes.
        before: A command that the machine runs before anything is saved, such as one that flushes a training job. If it fails, nothing
            is done.
        before_seconds: How long that command may take.
        wipe: Of a machine that torpor can't end, such as an SSH host, delete the workspace once the proof is there. Without it such a
            machine keeps everything, and the run says that it has to be ended by hand.
        rate: Bytes a second that the machine may send at most; 0: no limit.
        patience: Seconds for which a store that does not answer is tried again.
        tune_network: Set the machine's kernel for long and fast links, as far as it lets itself be.
        runner: How the machine does its work: over ssh, or as a worker of the Prefect pool gpu, seen there task by task (docs/gpu-pool.md).
    """
    began = time.monotonic()
    settings = load(storage=storage)
    await asyncio.to_thread(leases.claim, settings, machine, SYSTEM)  # or a sweep might end it meanwhile, and what was done on it
    place = await asyncio.to_thread(places.of_machine, settings, machine)
    if destroy_after:  # whether it may be is known before the hours of work that would end there
        repository = await asyncio.to_thread(destroy.open_for_destroying, settings)
        if place.far is None:
            await asyncio.to_thread(destroy.refuse_inside, repository, place.roots)
    else:
        repository = await asyncio.to_thread(open_repository, settings, create=True)
    ends = destroy_after and (wipe or place.traits is None or place.traits.ends == "machine")
    scope = place.scope(excludes, default_excludes=default_excludes, one_file_system=not across_file_systems)
    compare = destroy_after or verify == "sample"  # what is not read back from storage was at least decoded and compared once
    options = Options(
        name=name, machine=machine, labels=labels or {}, codec=codec, compare=compare, memory=memory_mib * MIB, rate=rate,
        patience=patience, tune=tune_network,
    )  # fmt: skip
    accepted = Acceptance(accept=list(accept), ignore_changes=list(ignore_changes))
    async with steps.session_on(repository, place) as session:
        if place.far is not None:
            await steps.done(machines.bootstrap.submit(session))
        await steps.choose(runner, session)
        if before:
            await steps.done(hooks.before.submit(session, before, before_seconds))
        if destroy_after:
            taken, found = await _settle(session, scope, options, accepted, verify, rounds)
        else:
            taken = [await _take(session, scope, options)]
            for line in taken[-1].result.problem_paths:
                session.warn(f"Not saved as it is: {line}")
            for line in taken[-1].result.mounts:
                session.warn(f"Left out, another file system: {line}")
            found = await steps.done(verifying.verify.submit(session, taken[-1].snapshot.id, verify))
        if found.receipt is None:
            raise DestroyRefused(f"Snapshot {found.snapshot} was verified and has no receipt.", safe=LEFT_RUNNING)
        await artifacts.receipt(found.receipt, found.receipt_name)
        price = None
        if ends:
            price = (await steps.done(machines.destroy.submit(session, found.receipt))).price
        elif destroy_after:
            session.warn(f"{machine} was not ended: torpor has no way to, and it may go on costing. {UNENDED}")
        result = report(machine, taken, found, ends, time.monotonic() - began) | {
            "stages": steps.stage_figures(session),
            "price_after": price,
            "created_repository": repository.created,
        }
        await artifacts.table("hibernate", artifacts.hibernated(result), f"{machine} in snapshot {found.snapshot}")
    return result


async def _take(session: Session, scope: Scope, options: Options) -> Taken:
    """One snapshot, with a task for each of its stages."""
    watching = steps.follow(session, stages.OF_SNAPSHOT)
    return await steps.job(session, snapshots.snapshot.submit(session, scope, options), watching)


async def _settle(
    session: Session, scope: Scope, options: Options, accept: Acceptance, depth: Depth, rounds: int
) -> tuple[list[Taken], Verified]:
    """Snapshots until nothing changed during one, nor while it was verified. Raises `SourceChanged` after the last round."""
    taken: list[Taken] = []
    while True:
        taken.append(await _take(session, scope, options))
        check = await steps.done(snapshots.check.submit(session, scope, taken[-1], accept))
        try:
            if check.changed:
                raise destroy.changed(check, "while the snapshot was taken")
            until = max(one.exposed_until for one in taken)
            await steps.wait_until(session, until, "until nothing that the host was given can write over what it put")
            return taken, await steps.done(verifying.prove.submit(session, scope, taken[-1], check, depth, accept, until))
        except SourceChanged as error:
            if len(taken) >= rounds:
                raise
            session.note(f"{error.what} Another snapshot takes what is new: {len(taken) + 1} of at most {rounds}.")


def report(machine: str, taken: list[Taken], found: Verified, destroyed: bool, seconds: float) -> dict[str, Any]:
    """What the run returns: ids, counts, bytes, seconds. Sizes of the last snapshot; what was sent and read, of all rounds."""
    last = taken[-1].snapshot.manifest
    return {
        "machine": machine,
        "snapshot": last.snapshot,
        "destroyed": destroyed,
        "rounds": len(taken),
        "files": last.files,
        "raw_bytes": last.raw_bytes,
        "stored_bytes": last.stored_bytes,
        "new_bytes": sum(one.snapshot.manifest.new_bytes for one in taken),
        "read_files": sum(one.result.read_files for one in taken),
        "read_bytes": sum(one.result.read_bytes for one in taken),
        "codecs": {name: {"raw_bytes": use.raw_bytes, "coded_bytes": use.coded_bytes} for name, use in last.codecs.items()},
        "problems": dict(last.problems),
        "receipt": found.receipt_name,
        "depth": found.depth,
        "snapshot_seconds": round(sum(one.seconds for one in taken), 3),
        "verify_seconds": found.seconds,
        "seconds": round(seconds, 3),
    }
