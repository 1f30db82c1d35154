"""Proof that a snapshot can be restored, made away from the host."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prefect import task

from tasks.policy import POLICY
from tasks.session import Session
from tasks.snapshot import look
from tasks.stages import completed, follow
from torpor.control import destroy, receipts
from torpor.control.destroy import LEFT_RUNNING, Acceptance
from torpor.control.receipts import Depth, Verified
from torpor.control.snapshots import Taken
from torpor.errors import Damaged, TorporError
from torpor.jobs import CheckResult, Scope
from torpor.units import size


@contextmanager
def _progress(session: Session) -> Iterator[None]:
    """Show the stage's progress from a thread of its own, in this task's name, while the block works."""
    board = session.begin()
    watcher = threading.Thread(target=contextvars.copy_context().run, args=(follow, board, "verify", "verify"), name="progress")
    watcher.start()
    try:
        yield
    finally:
        board.finish()
        watcher.join()


def _done(found: Verified) -> Verified:
    read = f"{found.read_packs} of {found.packs} packs read ({size(found.read_bytes)})"
    return completed("verify", f"{found.depth}: {read} in {found.seconds:.1f} s", found)


@task(name="verify", task_run_name="verify", **POLICY)
def prove(
    session: Session, scope: Scope, taken: Taken, check: CheckResult, depth: Depth, accept: Acceptance, until: float = 0.0
) -> Verified:
    """Verify a snapshot and sign the receipt that a machine may be destroyed on; the host looks once more when all was read."""

    def look_again() -> CheckResult:
        session.check()
        return look(session, scope, taken, accept)

    with session.step("verify"), _progress(session):
        found = destroy.prove(session.repository, taken.result, check, depth, accept, session.hear_here, look_again, until)
    return _done(found)


@task(name="verify", task_run_name="verify", **POLICY)
def verify(session: Session, snapshot: str, depth: Depth) -> Verified:
    """Verify a snapshot whose machine stays. Raises `Damaged`."""
    with session.step("verify"), _progress(session):
        found = receipts.verify(session.repository, snapshot, depth, session.hear_here)
        if found.damage:
            raise _damaged(found)
    return _done(found)


def _damaged(found: Verified) -> TorporError:
    name, why = next(iter(found.damage.items()))
    return Damaged(
        f"{len(found.damage)} objects of snapshot {found.snapshot} are not what they should be: {name}: {why}.",
        safe=LEFT_RUNNING,
        remedy="Look at the store, then take the snapshot again.",
    )
