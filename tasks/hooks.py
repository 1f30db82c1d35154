"""Commands of the user's on the machine, before a snapshot and after a restore."""

from __future__ import annotations

from prefect import task

from tasks.policy import ONCE
from tasks.session import Session
from tasks.stages import completed
from torpor.control import hooks


@task(name="before", task_run_name="before", **ONCE)
def before(session: Session, command: str, seconds: float) -> None:
    """Run the user's command before the snapshot: to flush a training job, say. If it fails, nothing is done."""
    with session.step("before"):
        found = hooks.before(session.place.shell, command, seconds, session.hear)
    completed("before", f"done in {found.seconds:.1f} s", None)


@task(name="after", task_run_name="after", **ONCE)
def after(session: Session, command: str, seconds: float) -> None:
    """Run the user's command after the restore: to start a server, say."""
    with session.step("after"):
        found = hooks.after(session.place.shell, command, seconds, session.hear)
    completed("after", f"done in {found.seconds:.1f} s", None)
