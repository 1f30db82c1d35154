"""Retention: which snapshots a policy removes, what that frees, and doing it. What it frees leaves the store with later prunes."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import msgspec

from torpor.clock import parse_rfc3339
from torpor.control import catalogue, claims, distrust, needs, prune, receipts
from torpor.control.catalogue import Snapshot
from torpor.control.prune import Report
from torpor.control.repository import Repository
from torpor.errors import NotFound, UsageError
from torpor.plan import retention
from torpor.plan.retention import Candidate, Decision, Policy
from torpor.storage.base import PACKS


class Plan(msgspec.Struct):
    """What a policy comes to. `freed_bytes`: of objects that only the removed need; `kept_bytes`: of those that the others need.

    `hurt`: ids of snapshots that need an object which is missing or known to be damaged.
    """

    decisions: list[Decision]
    freed_bytes: int = 0
    freed_objects: int = 0
    kept_bytes: int = 0
    hurt: list[str] = msgspec.field(default_factory=list)

    @property
    def removed(self) -> list[Candidate]:
        return [decision.snapshot for decision in self.decisions if not decision.keep]


def plan(repository: Repository, policy: Policy) -> Plan:
    """Decide, and reckon. Nothing is changed.

    Raises `Damaged` if a manifest or index can't be believed, `RollbackSuspected` if one was lost: then nobody knows what is the newest.
    """
    catalogue.check_lost(repository, catalogue.ids(repository))
    claimed = needs.claimed(repository)
    snapshots = needs.believed(repository)
    named = {snapshot.id: needs.named(repository, snapshot) for snapshot in snapshots}
    # Listed last, so that what a snapshot names is there if it is there at all.
    sizes = {info.name: info.size for info in repository.store.list(PACKS)}
    bad = {PACKS + name for name in distrust.packs(repository)}
    hurt = [id for id, objects in named.items() if not objects <= sizes.keys() or objects & bad]
    decisions = retention.decide(
        (_candidate(repository, snapshot, hurt=snapshot.id in hurt) for snapshot in snapshots), policy, repository.clock.now()
    )
    kept = _union(named[decision.snapshot.id] for decision in decisions if decision.keep)
    gone = _union(named[decision.snapshot.id] for decision in decisions if not decision.keep)
    freed = [sizes[name] for name in gone - kept if name in sizes and not claimed.keeps(name)]
    return Plan(decisions, sum(freed), len(freed), sum(sizes.get(name, 0) for name in kept), hurt)


def _union(sets: Iterable[set[str]]) -> set[str]:
    return set().union(*sets)


def _candidate(repository: Repository, snapshot: Snapshot, *, hurt: bool) -> Candidate:
    private = snapshot.private
    return Candidate(
        snapshot.id,
        parse_rfc3339(snapshot.manifest.created),
        snapshot.manifest.lineage,
        private.machine if private else "",
        private.name if private else "",
        receipts.was_read(repository, snapshot),
        hurt,
    )


def carry_out(repository: Repository, decided: Plan) -> Report:
    """Remove what the plan removes, oldest first, and mark what nobody needs now. What was marked is returned.

    Interrupted anywhere, and run again, it goes on. Raises `UsageError` if the clock is wrong, `NotFound` if what was to stay is gone.
    """
    repository.private()
    if decided.removed:
        _check_clock(repository)
    stays: dict[str, list[str]] = {}
    for decision in decided.decisions:
        if decision.keep:
            stays.setdefault(decision.snapshot.lineage, []).append(decision.snapshot.id)
    for snapshot in decided.removed:
        _check_stays(repository, stays[snapshot.lineage])
        prune.remove(repository, snapshot.id)
    return prune.mark(repository)


def _check_stays(repository: Repository, kept: list[str]) -> None:
    """The plan may be of a while ago: somebody else may have removed what was to stay."""
    gone = sorted(set(kept) - set(catalogue.ids(repository)))
    if gone:
        raise NotFound(
            f"Snapshot {gone[0]}, which was to stay, is gone meanwhile.",
            safe="No more snapshots were removed.",
            remedy="Run `torpor retain` again: it decides anew.",
        )


def _check_clock(repository: Repository) -> None:
    """A clock that runs ahead makes everything old. The store's own tells: a small object is written, looked at, and deleted."""
    name = f"doctor/clock-{secrets.token_hex(4)}"
    before = repository.clock.now()
    modified = repository.store.put(name, b"clock").modified
    after = repository.clock.now()
    repository.store.delete([name])
    skew = max(before - modified, modified - after)
    if skew > claims.SKEW:
        raise UsageError(
            f"This computer's clock is {skew:.0f} s away from the store's, so nobody knows how old a snapshot is.",
            safe="Nothing was removed.",
            remedy="Set the clock by NTP; `torpor doctor` compares them.",
        )
