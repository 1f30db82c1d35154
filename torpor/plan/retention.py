"""Which snapshots stay and which go, with a reason for each. Age decides, so that many new ones never push out the good old one.

Whatever the policy, these stay, of each lineage: the newest; the newest that is not known to be hurt; the newest of those that was
proven by reading from its packs.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import NamedTuple

DAY = 24 * 3600.0
DAYS = 7  # how many days everything is kept, unless told otherwise


class Candidate(NamedTuple):
    """What is known of a snapshot. `at`: seconds since 1970. `proven`: a receipt says that packs of it were read back and were right.

    `hurt`: an object that it needs is known to be missing or damaged, whatever its receipts say of the past.
    """

    id: str
    at: float
    lineage: str
    machine: str = ""
    name: str = ""
    proven: bool = False
    hurt: bool = False


class Policy(NamedTuple):
    """What is kept beside what always is. `seconds`: everything younger. Counts are of each lineage; days and weeks are UTC's.

    `machine`: only snapshots of this machine may go; None: of any.
    """

    seconds: float = DAYS * DAY
    last: int = 0
    named: bool = False
    daily: int = 0
    weekly: int = 0
    machine: str | None = None


class Decision(NamedTuple):
    """`why` is a phrase that goes after "kept:" or "removed:"."""

    snapshot: Candidate
    keep: bool
    why: str


def decide(snapshots: Iterable[Candidate], policy: Policy, now: float) -> list[Decision]:
    """One decision for each snapshot, oldest first. A snapshot from the future, by `now`, is young."""
    ordered = sorted(snapshots, key=lambda snapshot: snapshot.id)
    lineages: dict[str, list[Candidate]] = {}
    for snapshot in reversed(ordered):
        lineages.setdefault(snapshot.lineage, []).append(snapshot)
    reasons: dict[str, str] = {}
    for newest_first in lineages.values():
        for id, why in [*_always(newest_first), *_by_policy(newest_first, policy, now)]:
            reasons.setdefault(id, why)
    gone = f"older than {_span(policy.seconds)}"
    return [Decision(snapshot, snapshot.id in reasons, reasons.get(snapshot.id, gone)) for snapshot in ordered]


def _always(newest_first: list[Candidate]) -> Iterable[tuple[str, str]]:
    whole = [snapshot for snapshot in newest_first if not snapshot.hurt]
    proven = [snapshot for snapshot in whole if snapshot.proven]
    yield newest_first[0].id, "the newest of its workspace"
    if whole:
        yield whole[0].id, "the newest of its workspace that is not damaged"
    if proven:
        yield proven[0].id, "the newest of its workspace that was proven"


def _by_policy(newest_first: list[Candidate], policy: Policy, now: float) -> Iterable[tuple[str, str]]:
    for place, snapshot in enumerate(newest_first):
        if policy.machine is not None and snapshot.machine != policy.machine:
            yield snapshot.id, "of another machine"
        if now - snapshot.at < policy.seconds:
            yield snapshot.id, f"younger than {_span(policy.seconds)}"
        if place < policy.last:
            yield snapshot.id, f"one of the last {policy.last} of its workspace"
        if policy.named and snapshot.name:
            yield snapshot.id, "it has a name"
    yield from _newest_of_each(newest_first, policy.daily, "%Y-%m-%d", "day")
    yield from _newest_of_each(newest_first, policy.weekly, "%G week %V", "week")


def _newest_of_each(newest_first: list[Candidate], count: int, form: str, noun: str) -> Iterable[tuple[str, str]]:
    """The newest snapshot of each of the last `count` days, or weeks, that have one which is not hurt."""
    seen: set[str] = set()
    for snapshot in newest_first:
        period = datetime.fromtimestamp(snapshot.at, timezone.utc).strftime(form)
        if period in seen or snapshot.hurt:
            continue
        if len(seen) == count:
            return
        seen.add(period)
        yield snapshot.id, f"the newest of its {noun}, {period}"


def _span(seconds: float) -> str:
    days = seconds / DAY
    return "1 day" if days == 1 else f"{days:g} days"
