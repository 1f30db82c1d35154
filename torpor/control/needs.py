"""What the store must keep: for snapshots that are there, and for those being made. Read without any secret (docs/format.md §2)."""

from __future__ import annotations

import msgspec

from torpor.control import catalogue, claims, heads
from torpor.control.catalogue import Snapshot
from torpor.control.repository import Repository
from torpor.errors import Damaged, Malformed
from torpor.format import index, names
from torpor.storage.base import PACKS, Missing


class Needed(msgspec.Struct):
    """What must stay: whole prefixes below packs/ (snapshots being made), and single objects."""

    prefixes: set[str] = msgspec.field(default_factory=set)
    objects: set[str] = msgspec.field(default_factory=set)
    live_claims: int = 0

    def keeps(self, name: str) -> bool:
        return name in self.objects or name[len(PACKS) :].split("/", 1)[0] in self.prefixes


def needed(repository: Repository) -> Needed:
    """Read claims, then manifests: the order that misses neither a snapshot being made nor one just committed.

    Raises if a claim, a manifest or the head of an index can't be read or verified: then nobody knows what is needed.
    """
    out = claimed(repository)
    for snapshot in believed(repository):
        out.objects.update(named(repository, snapshot))
    return out


def claimed(repository: Repository) -> Needed:
    """What snapshots that are being made need."""
    out = Needed()
    for claim in claims.live(repository).values():
        out.live_claims += 1
        out.prefixes.update((claim.snapshot, *claim.continues))
        for parent in claim.parents:
            try:
                head = heads.read_head(repository, parent.index, parent.head_size, parent.head_sha256)
            except Missing:
                continue  # pruned before the claim was made; its commit will notice
            out.objects.update(_all_of(parent.index, head))
    return out


def believed(repository: Repository) -> list[Snapshot]:
    """All snapshots, oldest first. Raises if the manifest of one can't be believed."""
    snapshots, bad = catalogue.load_all(repository)
    if bad:
        name, error = next(iter(bad.items()))
        raise Damaged(
            f"The manifest of {name} can't be believed ({error.what}), so nobody knows what it needs.",
            safe="Nothing was marked or deleted.",
            remedy=f"Look at it; if it is worthless, remove it with `torpor rm {name} --damaged`, then prune.",
        )
    return snapshots


def named(repository: Repository, snapshot: Snapshot) -> set[str]:
    """The objects that a snapshot needs: its index and packs. Nothing if it is removed at this moment. Raises `Damaged`."""
    try:
        head = heads.head_of(repository, snapshot.manifest)
    except (Missing, Damaged, Malformed) as error:
        if repository.store.head(names.manifest(snapshot.id)) is None:
            return set()  # removed while we looked, and another prune was quicker
        raise Damaged(
            f"The index of {snapshot.id} can't be read ({error.what}), so nobody knows what it needs.",
            safe="Nothing was marked or deleted.",
            remedy=f"Put it back from a copy; without one that snapshot is lost: `torpor rm {snapshot.id}`, then prune.",
        ) from None
    return _all_of(snapshot.manifest.index.name, head)


def _all_of(name: str, head: index.Head) -> set[str]:
    return {PACKS + name, *(PACKS + pack.name for pack in head.packs)}
