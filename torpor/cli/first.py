"""What is said when a repository was made: where its keys are, and that the recovery key must be written down."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.control.repository import Repository


def on_this_disk(session: Session) -> None:
    """Warn if nobody said where the repository is."""
    if session.default_storage:
        session.warn(
            f"The repository is on this computer, in {session.settings.storage}: it is lost with this disk. "
            "Give --storage, or set TORPOR_STORAGE."
        )


def welcome(session: Session, repository: Repository) -> None:
    """Say so on standard error. The recovery key itself goes to a terminal only, never into a log."""
    session.note(f"made repository {repository.id[:8]} at {repository.store.url}")
    if not repository.encrypted:
        session.warn("It is not encrypted: whoever can read the store can read the snapshots.")
    keys = repository.private()
    session.note(f"Its keys are in {repository.home.keys(repository.id)}.")
    if sys.stderr.isatty():
        from torpor.format.recovery import encode

        print(
            "\nWrite down the recovery key, and keep it where this computer can't take it along:\n\n"
            f"    {encode(keys.recovery)}\n\n"
            "It is the only way to the snapshots once this computer is gone. `torpor keys confirm` checks what you wrote.\n",
            file=sys.stderr,
        )
    else:
        session.warn("Write down the recovery key that `torpor keys show` prints: without it, the snapshots are lost with this computer.")
