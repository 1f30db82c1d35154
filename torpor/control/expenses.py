"""How many bytes each workspace keeps in the store, and how many a wake of it reads: what costs are counted from."""

from __future__ import annotations

from typing import NamedTuple

from torpor.control import catalogue
from torpor.control.repository import Repository
from torpor.storage.base import PACKS


class Workspace(NamedTuple):
    """One lineage. `stored_bytes`: objects that its snapshots wrote; `wake_bytes`: what a wake of `latest` reads; `new_bytes`: what
    `latest` wrote. Name and machine are the latest snapshot's; None without the keys."""

    lineage: str
    name: str | None
    machine: str | None
    snapshots: int
    latest: str
    stored_bytes: int
    wake_bytes: int
    new_bytes: int


class Expenses(NamedTuple):
    """`stored_bytes` counts every object of the repository; `other_bytes` those of packs that no snapshot of today wrote."""

    workspaces: list[Workspace]
    stored_bytes: int
    other_bytes: int


def read(repository: Repository) -> Expenses:
    """Lists the store and reads the manifests. Workspaces come with the biggest first; manifests that can't be believed don't count."""
    total = 0
    packs: dict[str, int] = {}
    for info in repository.store.list():
        total += info.size
        if info.name.startswith(PACKS):
            writer = info.name[len(PACKS) :].partition("/")[0]
            packs[writer] = packs.get(writer, 0) + info.size
    by_lineage: dict[str, list[catalogue.Snapshot]] = {}
    for snapshot in catalogue.load_all(repository)[0]:
        by_lineage.setdefault(snapshot.manifest.lineage, []).append(snapshot)
    workspaces = [_workspace(lineage, found, packs) for lineage, found in by_lineage.items()]
    workspaces.sort(key=lambda workspace: (-workspace.stored_bytes, workspace.lineage))
    return Expenses(workspaces, total, sum(packs.values()))


def _workspace(lineage: str, snapshots: list[catalogue.Snapshot], packs: dict[str, int]) -> Workspace:
    """Takes what its snapshots wrote out of `packs`."""
    latest = snapshots[-1]
    return Workspace(
        lineage=lineage,
        name=latest.private.name if latest.private else None,
        machine=latest.private.machine if latest.private else None,
        snapshots=len(snapshots),
        latest=latest.id,
        stored_bytes=sum(packs.pop(snapshot.id, 0) for snapshot in snapshots),
        wake_bytes=latest.manifest.stored_bytes,
        new_bytes=latest.manifest.new_bytes,
    )
