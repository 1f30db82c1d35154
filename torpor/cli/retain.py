"""torpor retain: remove snapshots by their age."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import amounts, columns
from torpor.cli.parameters import flag, number, option

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.control.retain import Plan

PARAMETERS = (
    number("--days", "Keep what is younger than so many days: 7 unless told."),
    number("--last", "Keep the last N of each workspace too."),
    flag("--named", "Keep snapshots that have a name too."),
    number("--daily", "Keep the newest of each of the last N days too."),
    number("--weekly", "Keep the newest of each of the last N weeks too."),
    option("--machine", "MACHINE", "Remove only snapshots of this machine."),
    flag("--dry-run", "Show what would be removed, and why; change nothing."),
)

_HEAD = ("SNAPSHOT", "AGE", "NAME", "MACHINE", "", "WHY")


def run(
    session: Session, days: int | None, last: int | None, named: bool, daily: int | None, weekly: int | None, machine: str | None,
    dry_run: bool,
) -> int:  # fmt: skip
    """Age decides, so that many new snapshots never push out the good old one.

    Of each workspace these always stay: the newest, the newest that is not damaged, and the newest that a `verify` has read from.
    What only the removed needed is marked, and deleted by a `torpor prune` that runs a day later.
    """
    from torpor.control import retain
    from torpor.plan.retention import DAY, DAYS, Policy

    repository = session.repository()
    repository.private()
    seconds = (DAYS if days is None else days) * DAY
    plan = retain.plan(repository, Policy(seconds, last or 0, named, daily or 0, weekly or 0, machine))
    gone = [snapshot.id for snapshot in plan.removed]
    _tell(session, plan, repository.clock.now())
    marked = None if dry_run else retain.carry_out(repository, plan)
    money = _money(repository.store.capabilities.provider, plan)
    if not session.quiet:
        would = "would be removed" if dry_run else "removed"
        worth = "" if money is None else f" ({amounts.money(money)} a month)"
        session.say(
            f"{amounts.count(len(gone), 'snapshot')} of {len(plan.decisions):,} {would}; only they need "
            f"{amounts.size(plan.freed_bytes)}{worth}, the others {amounts.size(plan.kept_bytes)}"
        )
    if marked is not None and marked.marked:
        session.note(f"{amounts.size(marked.marked_bytes)} marked; a `torpor prune` gives them back, a day from now or later")
    for id in plan.hurt:
        if id not in gone:
            session.warn(f"{id} needs objects that are missing or damaged: `torpor verify {id}` says which")
    session.answer({
        "removed": [] if dry_run else gone, "would_remove": gone if dry_run else [], "freed_bytes": plan.freed_bytes,
        "freed_per_month": money, "freed_objects": plan.freed_objects, "kept_bytes": plan.kept_bytes,
        "marked": len(marked.marked) if marked else 0,
        "marked_bytes": marked.marked_bytes if marked else 0, "hurt": plan.hurt, "dry_run": dry_run,
        "decisions": [{"snapshot_id": one.snapshot.id, "keep": one.keep, "reason": one.why} for one in plan.decisions],
    })  # fmt: skip
    return 0


def _money(provider: str, plan: Plan) -> float | None:
    """US dollars that the freed bytes cost a month; None where no prices are known."""
    from torpor.plan import costs
    from torpor.plan.prices import PRICES

    price = PRICES.get(provider)
    if price is None:
        return None
    return costs.asleep(price, plan.kept_bytes + plan.freed_bytes) - costs.asleep(price, plan.kept_bytes)


def _tell(session: Session, plan: Plan, now: float) -> None:
    """A table of what goes; with -v of what stays too."""
    shown = [one for one in plan.decisions if not one.keep or session.verbose]
    rows = [
        [one.snapshot.id, amounts.age(now - one.snapshot.at), one.snapshot.name or "-", one.snapshot.machine or "-",
         "stays" if one.keep else "goes", one.why]
        for one in shown
    ]  # fmt: skip
    for line in columns.lines(_HEAD, rows, ("AGE",)) if rows and not session.quiet else ():
        session.say(line)
