"""The job of a restore."""

from __future__ import annotations

from prefect import task

from tasks.policy import POLICY
from tasks.session import Session
from torpor.control import restores
from torpor.control.restores import Options
from torpor.jobs import RestoreResult


@task(name="restore", task_run_name="restore", **POLICY)
def restore(session: Session, snapshot: str, options: Options) -> RestoreResult:
    """Run the job on the machine that was provisioned. Its stages have tasks of their own."""
    place = session.place
    with session.step(), session.reached() as repository:
        return restores.restore(repository, session.host, snapshot, place.roots[0], place.state, options, session.hear)
