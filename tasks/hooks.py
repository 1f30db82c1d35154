"""Commands of the user's on the machine, before a snapshot and after a restore."""

from __future__ import annotations

from collections.abc import Callable

from prefect import task

from tasks.policy import ONCE
from tasks.session import Session
from tasks.stages import completed
from torpor.control import hooks
from torpor.control.hooks import Hook
from torpor.ssh.base import Shell

Run = Callable[[Shell, Hook, bytes, Callable[[str], None]], None]


@task(name="before", task_run_name="before", **ONCE)
def before(session: Session, script: str, seconds: float) -> None:
    """Run the user's command before the snapshot: to flush a training job, say. If it fails, nothing is done."""
    _run(session, "before", hooks.before_snapshot, Hook(script=script, seconds=seconds))


@task(name="after", task_run_name="after", **ONCE)
def after(session: Session, script: str, seconds: float) -> None:
    """Run the user's command after the restore: to start a server, say."""
    _run(session, "after", hooks.after_restore, Hook(script=script, seconds=seconds))


def _run(session: Session, name: str, run: Run, hook: Hook) -> None:
    with session.step(name):
        run(session.place.shell, hook, session.place.roots[0], session.note)
    completed(name, "done", None)
