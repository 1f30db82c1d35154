"""torpor prune: delete what no snapshot needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import amounts, given
from torpor.cli.parameters import flag, option

if TYPE_CHECKING:
    from torpor.cli.session import Session

PARAMETERS = (
    option("--grace", "DURATION", "How long something must have been marked before it is deleted: 24h unless told."),
    flag("--dry-run", "Show what would be marked and deleted; change nothing."),
)


def run(session: Session, grace: str | None, dry_run: bool) -> int:
    """What no snapshot names any more is marked first, and deleted by a prune that runs after the grace.

    So snapshots can be taken meanwhile. A grace of less than 24 hours is refused while one is being taken.
    """
    from torpor.control import prune

    seconds = prune.GRACE if grace is None else given.duration(grace, "--grace")
    repository = session.repository()
    repository.private()
    report = prune.prune(repository, grace=seconds, dry_run=dry_run)
    left = 0 if dry_run else repository.store.clean()
    would = "would be " if dry_run else ""
    if not session.quiet:
        session.say(f"{amounts.count(len(report.deleted), 'object')} {would}deleted, {amounts.size(report.deleted_bytes)}")
        session.say(f"{amounts.count(len(report.marked), 'object')} {would}marked, {amounts.size(report.marked_bytes)}")
        if report.waiting:
            session.say(f"{amounts.count(report.waiting, 'object')} marked earlier, their grace not over")
        for name in report.deleted:
            session.detail(f"  {would}deleted: {name}")
    session.answer({
        "deleted": len(report.deleted), "deleted_bytes": report.deleted_bytes, "marked": len(report.marked),
        "marked_bytes": report.marked_bytes, "waiting": report.waiting, "left_overs": left, "grace_seconds": seconds, "dry_run": dry_run,
    })  # fmt: skip
    return 0
