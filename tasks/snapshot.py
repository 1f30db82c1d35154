"""The job of a snapshot, and the host's last look before the end."""

from __future__ import annotations

from prefect import task

from tasks.policy import POLICY
from tasks.session import Session
from tasks.stages import completed
from torpor.control import destroy, snapshots
from torpor.control.destroy import Acceptance
from torpor.control.snapshots import Options, Taken
from torpor.jobs import CheckResult, Scope


@task(name="snapshot", task_run_name="snapshot", **POLICY)
def snapshot(session: Session, scope: Scope, options: Options) -> Taken:
    """Run the job on the host and commit what it stored. Its stages have tasks of their own."""
    with session.step(), session.reached() as repository:
        return snapshots.take(repository, session.host, scope, session.place.state, options, session.hear)


@task(name="check", task_run_name="check", **POLICY)
def check(session: Session, scope: Scope, taken: Taken, accept: Acceptance) -> CheckResult:
    """Ask the host what has changed since the snapshot, and what is open for writing."""
    with session.step("check"):
        found = look(session, scope, taken, accept)
    return completed("check", f"{found.changed} changes, {len(found.open_files)} files open for writing", found)


def look(session: Session, scope: Scope, taken: Taken, accept: Acceptance) -> CheckResult:
    place, snapshot = session.place, taken.snapshot.id
    return destroy.final_check(session.repository, place.host, scope, place.state, snapshot, accept, session.hear)
