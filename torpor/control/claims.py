"""Claims: a snapshot being made tells prune what it builds on, and renews that until it is committed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from torpor.clock import parse_rfc3339, rfc3339
from torpor.control.repository import Repository
from torpor.errors import ClaimLost, Malformed, TorporError
from torpor.format import manifest, names
from torpor.format.manifest import Claim, Parent
from torpor.storage.base import Missing

LIFETIME = 3600.0  # seconds; shorter than any grace period
SKEW = 600.0  # how long prune still respects a claim that ran out, for clocks that differ
RENEW = LIFETIME / 4


def write(repository: Repository, claim: Claim) -> None:
    repository.store.put(names.claim(claim.snapshot), repository.sign("claim", claim))


def new(repository: Repository, snapshot: str, lineage: str, parents: list[Parent], continues: list[str]) -> Claim:
    now = repository.clock.now()
    return Claim(
        snapshot=snapshot,
        lineage=lineage,
        parents=parents,
        continues=continues,
        created=rfc3339(now),
        expires=rfc3339(now + LIFETIME),
    )


def renew(repository: Repository, claim: Claim) -> Claim:
    """Move the expiry. A claim that ran out or is gone is never revived: raises `ClaimLost`."""
    check(repository, claim)
    fresh = msgspec.structs.replace(claim, expires=rfc3339(repository.clock.now() + LIFETIME))
    write(repository, fresh)
    return fresh


def check(repository: Repository, claim: Claim) -> None:
    """Raise `ClaimLost` unless the claim in the store is there and not expired by our clock."""
    name = names.claim(claim.snapshot)
    try:
        found = manifest.decode(repository.read_signed("claim", name), Claim, name)
    except Missing:
        raise _lost(claim, "was removed") from None
    if found.snapshot != claim.snapshot:
        raise _lost(claim, "was replaced by another's")
    if parse_rfc3339(found.expires) <= repository.clock.now():
        raise _lost(claim, "ran out")


def _lost(claim: Claim, why: str) -> ClaimLost:
    return ClaimLost(
        f"The claim on snapshot {claim.snapshot} {why} before it was committed, so what it builds on may have been pruned.",
        safe="No manifest was written; earlier snapshots are untouched.",
        remedy="Run the snapshot again: packs that are still there are used again.",
    )


def release(repository: Repository, snapshot: str) -> None:
    repository.store.delete([names.claim(snapshot)])


def live(repository: Repository) -> dict[str, Claim]:
    """Claims that prune must respect, by snapshot. A claim that can't be verified counts as live: its parents are not known,
    so the error is raised."""
    found: dict[str, Claim] = {}
    now = repository.clock.now()
    for info in repository.store.list(names.CLAIMS):
        try:
            claim = manifest.decode(repository.read_signed("claim", info.name), Claim, info.name)
        except Missing:
            continue
        if info.name != names.claim(claim.snapshot):
            raise Malformed(f"{info.name} is the claim of another snapshot.", remedy="Look at who can write to the bucket; then remove it.")
        if parse_rfc3339(claim.expires) + SKEW > now:
            found[claim.snapshot] = claim
    return found


@contextmanager
def kept(repository: Repository, claim: Claim) -> Iterator[None]:
    """Renew a claim in the background while its snapshot is being made. It is left in the store on failure, to protect what is
    kept for the next run until it expires."""
    done = threading.Event()
    current = claim

    def loop() -> None:
        nonlocal current
        while not done.wait(RENEW):
            try:
                current = renew(repository, current)
            except ClaimLost:
                return  # the commit will say so
            except TorporError:
                continue  # the store does not answer: try again; the commit checks the expiry

    thread = threading.Thread(target=loop, name="claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
