"""Removing snapshots, and what no snapshot needs any more: mark, wait, look again, sweep. No locks (docs/format.md §2)."""

from __future__ import annotations

import secrets

import msgspec

from torpor.clock import rfc3339
from torpor.control import catalogue, claims, heads, marks
from torpor.control.catalogue import Snapshot
from torpor.control.repository import Repository
from torpor.errors import Damaged, Malformed, NotFound, UsageError
from torpor.format import index, names
from torpor.format.manifest import Mark, Removal
from torpor.storage.base import PACKS, Missing

GRACE = 24 * 3600.0


class Needed(msgspec.Struct):
    """What must stay: whole prefixes below packs/ (snapshots being made), and single objects."""

    prefixes: set[str] = msgspec.field(default_factory=set)
    objects: set[str] = msgspec.field(default_factory=set)
    live_claims: int = 0

    def keeps(self, name: str) -> bool:
        return name in self.objects or name[len(PACKS) :].split("/", 1)[0] in self.prefixes


class Report(msgspec.Struct):
    """Outcome of a prune. Sizes in bytes. `waiting`: marked, their grace not over."""

    marked: list[str] = msgspec.field(default_factory=list)
    marked_bytes: int = 0
    deleted: list[str] = msgspec.field(default_factory=list)
    deleted_bytes: int = 0
    waiting: int = 0
    kept: int = 0
    dry_run: bool = False


def needed(repository: Repository) -> Needed:
    """Read claims, then manifests: the order that misses neither a snapshot being made nor one just committed.

    Raises if a claim, a manifest or the head of an index can't be read or verified: then nobody knows what is needed.
    """
    out = Needed()
    for claim in claims.live(repository).values():
        out.live_claims += 1
        out.prefixes.update((claim.snapshot, *claim.continues))
        for parent in claim.parents:
            try:
                head = heads.read_head(repository, parent.index, parent.head_size, parent.head_sha256)
            except Missing:
                continue  # pruned before the claim was made; its commit will notice
            _keep(out, parent.index, head)
    snapshots, bad = catalogue.load_all(repository)
    if bad:
        name, error = next(iter(bad.items()))
        raise Damaged(
            f"The manifest of {name} can't be believed ({error.what}), so nobody knows what it needs.",
            safe="Nothing was marked or deleted.",
            remedy=f"Look at it; if it is worthless, remove it with `torpor rm {name} --damaged`, then prune.",
        )
    for snapshot in snapshots:
        try:
            head = heads.head_of(repository, snapshot.manifest)
        except Missing:
            if repository.store.head(names.manifest(snapshot.id)) is not None:
                raise
            continue  # removed while we looked, and another prune was quicker
        _keep(out, snapshot.manifest.index.name, head)
    return out


def _keep(out: Needed, name: str, head: index.Head) -> None:
    out.objects.add(PACKS + name)
    out.objects.update(PACKS + pack.name for pack in head.packs)


def mark(repository: Repository, *, dry_run: bool = False) -> Report:
    """Phase 1: write down what nobody needs now. What an older mark lists is not listed again."""
    report = Report(dry_run=dry_run)
    # Listed first: what a snapshot puts from here on is not in the list, and its claim is older than all that is.
    listed = list(repository.store.list(PACKS))
    keep = needed(repository)
    known = {name for mark in marks.load_all(repository) for name in mark.objects}
    for info in listed:
        if keep.keeps(info.name):
            report.kept += 1
        elif info.name not in known:
            report.marked.append(info.name)
            report.marked_bytes += info.size
    if report.marked and not dry_run:
        at = repository.clock.now()
        made = Mark(time=rfc3339(at), objects=report.marked, bytes=report.marked_bytes)
        repository.store.put(names.mark(at, secrets.token_bytes(4)), repository.sign("mark", made), if_absent=True)
    return report


def sweep(repository: Repository, *, grace: float = GRACE, dry_run: bool = False) -> Report:
    """Phase 2: delete what marks older than `grace` seconds list and what is still not needed.

    A grace of less than a day is refused while a claim lives.
    """
    report = Report(dry_run=dry_run)
    now = repository.clock.now()
    found = marks.load_all(repository)
    due = [mark for mark in found if mark.at + grace <= now]
    report.waiting = sum(len(mark.objects) for mark in found) - sum(len(mark.objects) for mark in due)
    if not due:
        return report
    keep = needed(repository)
    if grace < GRACE and keep.live_claims:
        raise UsageError(
            f"{keep.live_claims} snapshots are being made; with a grace of less than a day, prune could take what they build on.",
            safe="Nothing was deleted.",
            remedy="Wait until they are done, or leave --grace alone.",
        )
    sizes = {info.name: info.size for info in repository.store.list(PACKS)}
    for mark in due:
        doomed = [name for name in mark.objects if not keep.keeps(name) and name in sizes]
        report.kept += sum(keep.keeps(name) for name in mark.objects)
        report.deleted += doomed
        report.deleted_bytes += sum(sizes[name] for name in doomed)
        if not dry_run:
            # Indexes last: while one is there, the head it opens with still tells what its snapshot named.
            repository.store.delete(sorted(doomed, key=lambda name: "/index-" in name))
            repository.store.delete([mark.name])
    return report


def prune(repository: Repository, *, grace: float = GRACE, dry_run: bool = False) -> Report:
    """Sweep what is due, then mark what is new; with a grace of 0, mark first and sweep that too."""
    if grace < 0:
        raise UsageError("--grace can't be negative.")
    if grace == 0 and not dry_run:
        marked = mark(repository)
        swept = sweep(repository, grace=grace)
    else:
        swept = sweep(repository, grace=grace, dry_run=dry_run)
        marked = mark(repository, dry_run=dry_run)
    clean_claims(repository, dry_run=dry_run)
    swept.marked, swept.marked_bytes = marked.marked, marked.marked_bytes
    return swept


def clean_claims(repository: Repository, *, dry_run: bool) -> None:
    """Remove claims that have run out for good."""
    # Listed before they are read: a claim that appears in between is in neither list, so it is not taken for a dead one.
    found = [info.name for info in repository.store.list(names.CLAIMS)]
    live = {names.claim(snapshot) for snapshot in claims.live(repository)}
    dead = [name for name in found if name not in live]
    if dead and not dry_run:
        repository.store.delete(dead)


def remove(repository: Repository, snapshot: str, *, damaged: bool = False) -> Snapshot | None:
    """Remove a snapshot: the signed record of it first, then manifest and receipts; packs go with prune.

    `damaged`: also one whose manifest can't be verified. Returns what was removed, if it could be read.
    """
    found: Snapshot | None = None
    sha256 = ""
    try:
        found = catalogue.load(repository, snapshot)
        sha256 = found.sha256
    except (Damaged, Malformed):
        if not damaged:
            raise
    except NotFound:
        if not catalogue.removed_on_purpose(repository, snapshot):
            raise
        _forget_receipts(repository, snapshot)  # a removal that was cut short
        return None
    made = Removal(snapshot=snapshot, manifest_sha256=sha256, time=rfc3339(repository.clock.now()))
    repository.store.put(names.removed(snapshot), repository.sign("removal", made))
    repository.store.delete([names.manifest(snapshot)])
    _forget_receipts(repository, snapshot)
    return found


def _forget_receipts(repository: Repository, snapshot: str) -> None:
    for prefix in (names.RECEIPTS, names.COPIES):
        repository.store.delete([info.name for info in repository.store.list(f"{prefix}{snapshot}/")])
