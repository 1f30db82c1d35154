"""torpor prune: delete what no snapshot needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import amounts, given
from torpor.cli.parameters import flag, option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torpor.cli.session import Session
    from torpor.control.leftovers import Leftover
    from torpor.control.repository import Repository

PARAMETERS = (
    option("--grace", "DURATION", "How long something must have been marked before it is deleted: 24h unless told."),
    flag("--dry-run", "Show what would be marked and deleted, and why; change nothing."),
)


def run(session: Session, grace: str | None, dry_run: bool) -> int:
    """What no snapshot names any more is marked first, and deleted by a prune that runs after the grace.

    So snapshots can be taken meanwhile. A grace of less than 24 hours is refused while one is being taken. No key is needed.
    """
    from torpor.control import prune

    seconds = prune.GRACE if grace is None else given.duration(grace, "--grace")
    repository = session.repository()
    report = prune.prune(repository, grace=seconds, dry_run=dry_run)
    left = 0 if dry_run else repository.store.clean()
    would = "would be " if dry_run else ""
    details = dry_run or session.verbose
    deleted = _tell(session, repository, report.deleted, f"{would}deleted", details)
    marked = _tell(session, repository, report.marked, f"{would}marked", details)
    if report.waiting and report.due is not None and not session.quiet:
        wait = amounts.seconds(max(0.0, report.due - repository.clock.now()))
        what = f"{amounts.count(report.waiting, 'object')} marked earlier, {amounts.size(report.waiting_bytes)}"
        session.say(f"{what}; the first may go in {wait}")
    session.answer({
        "deleted": len(report.deleted), "deleted_bytes": report.deleted_bytes, "marked": len(report.marked),
        "marked_bytes": report.marked_bytes, "waiting": report.waiting, "waiting_bytes": report.waiting_bytes, "left_overs": left,
        "grace_seconds": seconds, "dry_run": dry_run, "why": [one._asdict() | {"what": what} for what, one in (*deleted, *marked)],
    })  # fmt: skip
    return 0


def _tell(session: Session, repository: Repository, sizes: Mapping[str, int], what: str, details: bool) -> list[tuple[str, Leftover]]:
    """Say how much it is and, with `details`, of which snapshots and why; with -v by name."""
    from torpor.control import leftovers

    found = leftovers.by_snapshot(repository, sizes) if details or session.json else []
    if not session.quiet:
        session.say(f"{amounts.count(len(sizes), 'object')} {what}, {amounts.size(sum(sizes.values()))}")
    for one in found if details and not session.quiet else ():
        session.say(f"  {one.snapshot}: {amounts.count(one.objects, 'object')}, {amounts.size(one.bytes)}; {one.why}")
    for name in sizes:
        session.detail(f"  {what}: {name}")
    return [(what.removeprefix("would be "), one) for one in found]
