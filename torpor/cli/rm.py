"""torpor rm: remove snapshots."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from torpor.cli import amounts
from torpor.cli.parameters import argument, flag
from torpor.errors import Damaged, Malformed, NotFound, UsageError

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.control.repository import Repository

PARAMETERS = (
    argument("SNAPSHOT", "Ids, or beginnings of ids, or latest.", many=True),
    flag("--dry-run", "Show what would be removed; change nothing."),
    flag("--yes", "Do not ask."),
    flag("--damaged", "Also a snapshot whose manifest cannot be believed, or was lost."),
)


def run(session: Session, snapshot: list[str], dry_run: bool, yes: bool, damaged: bool) -> int:
    """Other snapshots are not touched, whatever they share with it. The space is given back by `torpor prune`."""
    from torpor.control import prune

    repository = session.repository()
    repository.private()
    chosen = list(dict.fromkeys(_resolve(repository, text, damaged) for text in snapshot))
    for snapshot_id in chosen:
        session.say(("would remove " if dry_run else "") + _describe(repository, snapshot_id, damaged))
    if not dry_run:
        if not yes:
            _ask(len(chosen))
        for snapshot_id in chosen:
            prune.remove(repository, snapshot_id, damaged=damaged)
        session.note(f"removed {amounts.count(len(chosen), 'snapshot')}; `torpor prune` gives the space back")
    session.answer({"removed": [] if dry_run else chosen, "would_remove": chosen if dry_run else [], "dry_run": dry_run})
    return 0


def _resolve(repository: Repository, text: str, damaged: bool) -> str:
    """An id; with `damaged`, also one in full whose manifest was lost, so that its loss can be recorded."""
    from torpor.control import catalogue
    from torpor.format import names

    if damaged and names.is_snapshot_id(text):
        return text
    return catalogue.resolve(repository, text)


def _describe(repository: Repository, snapshot_id: str, damaged: bool) -> str:
    from torpor.control import catalogue
    from torpor.jobs import show_text

    try:
        found = catalogue.load(repository, snapshot_id)
    except (Damaged, Malformed, NotFound) as error:
        if not damaged:
            raise type(error)(error.what, safe="Nothing was removed.", remedy="If it is worthless, remove it with --damaged.") from None
        return f"{snapshot_id} (damaged: {error.what.rstrip('.')})"
    name = f"{show_text(found.private.name)}, " if found.private and found.private.name else ""
    return f"{snapshot_id}: {name}{amounts.count(found.manifest.files, 'file')}, {amounts.size(found.manifest.raw_bytes)}"


def _ask(count: int) -> None:
    if not sys.stdin.isatty():
        raise UsageError("Nobody is here to be asked.", safe="Nothing was removed.", remedy="Give --yes.")
    print(f"Remove {amounts.count(count, 'snapshot')} for good? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("Not confirmed.", safe="Nothing was changed.")
