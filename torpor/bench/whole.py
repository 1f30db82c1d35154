"""Whole jobs: a snapshot, an unchanged one, a restore, with a repository and keys of their own in a scratch folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from torpor.bench.data import compare_trees
from torpor.control import restores, snapshots
from torpor.control.home import Home
from torpor.control.repository import open_repository
from torpor.errors import Damaged
from torpor.events import ignore
from torpor.jobs import Scope
from torpor.remote.host import InProcess
from torpor.settings import Settings


class Job(msgspec.Struct, frozen=True):
    """Seconds by the clock, and of all cores together."""

    wall: float
    cpu: float


class Whole(msgspec.Struct, frozen=True):
    """What became of one workspace. Sizes in bytes."""

    snapshot: Job
    unchanged: Job
    restore: Job
    files: int
    raw_bytes: int
    stored_bytes: int

    @property
    def ratio(self) -> float:
        return self.raw_bytes / max(1, self.stored_bytes)


def run(workspace: Path, scratch: Path, say: Callable[[str], None]) -> Whole:
    """Snapshot a workspace twice and restore it, all at default settings. Raises `TorporError`; a restored tree that differs is one."""
    settings = Settings(home=scratch / "home", storage=(scratch / "repository").as_uri())
    repository = open_repository(settings, create=True)
    host, state = InProcess(), Home(settings.home).host_state
    scope = Scope(roots=[os.fsencode(workspace)])
    taken: list[snapshots.Taken] = []

    def snapshot() -> None:
        taken.append(snapshots.take(repository, host, scope, state, snapshots.Options(), ignore))

    def restore() -> None:
        target = os.fsencode(scratch / "restored")
        restores.restore(repository, host, taken[0].snapshot.id, target, state, restores.Options(), ignore)

    say("snapshot")
    first = _timed(snapshot)
    say("unchanged snapshot")
    second = _timed(snapshot)
    say("restore")
    back = _timed(restore)
    say("compare")
    different = compare_trees(workspace, scratch / "restored")
    if different:
        raise Damaged(
            f"The restored tree is another one: {different[0]}" + (f", and {len(different) - 1} more." if different[1:] else "."),
            safe="It was a made-up workspace; no snapshot of yours was touched.",
            remedy="Do not trust this machine or this build before the cause is known: run `torpor doctor`.",
        )
    manifest = taken[0].snapshot.manifest
    return Whole(first, second, back, manifest.files, manifest.raw_bytes, manifest.stored_bytes)


def _timed(call: Callable[[], None]) -> Job:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Job(time.perf_counter() - wall, time.process_time() - cpu)
