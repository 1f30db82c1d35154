"""Removing snapshots, and what no snapshot needs any more: mark, wait, look again, sweep. No locks (docs/format.md §2)."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from torpor.clock import rfc3339
from torpor.control import catalogue, claims, marks
from torpor.control.catalogue import Snapshot
from torpor.control.needs import Needed, needed
from torpor.control.repository import Repository
from torpor.errors import Damaged, Malformed, NotFound, UsageError
from torpor.format import names
from torpor.format.manifest import Removal
from torpor.storage.base import PACKS

GRACE = 24 * 3600.0


class Report(msgspec.Struct):
    """Outcome of a prune: sizes in bytes, by name. `waiting`: marked, their grace not over; the first one's is over at `due` (seconds)."""

    marked: dict[str, int] = msgspec.field(default_factory=dict)
    deleted: dict[str, int] = msgspec.field(default_factory=dict)
    waiting: int = 0
    waiting_bytes: int = 0
    due: float | None = None
    kept: int = 0
    dry_run: bool = False

    @property
    def marked_bytes(self) -> int:
        return sum(self.marked.values())

    @property
    def deleted_bytes(self) -> int:
        return sum(self.deleted.values())


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
            report.marked[info.name] = info.size
    if report.marked and not dry_run:
        marks.write(repository, [*report.marked], report.marked_bytes)
    return report


def sweep(repository: Repository, *, grace: float = GRACE, dry_run: bool = False, besides: Collection[str] = ()) -> Report:
    """Phase 2: delete what marks older than `grace` seconds list and what is still not needed.

    A grace of less than a day is refused while a claim lives. `besides`: what a dry run takes for marked and due too.
    """
    report = Report(dry_run=dry_run)
    now = repository.clock.now()
    found = marks.load_all(repository)
    due = [mark for mark in found if mark.at + grace <= now]
    later = [mark for mark in found if mark.at + grace > now]
    report.waiting, report.waiting_bytes = sum(len(mark.objects) for mark in later), sum(mark.bytes for mark in later)
    report.due = min((mark.at + grace for mark in later), default=None)
    if not due and not besides:
        return report
    keep = needed(repository)
    if grace < GRACE:
        _check_short_grace(repository, keep)
    sizes = {info.name: info.size for info in repository.store.list(PACKS)}
    report.deleted.update((name, size) for name, size in sizes.items() if name in besides and not keep.keeps(name))
    for mark in due:
        doomed = [name for name in mark.objects if not keep.keeps(name) and name in sizes]
        report.kept += sum(keep.keeps(name) for name in mark.objects)
        report.deleted.update((name, sizes[name]) for name in doomed)
        if not dry_run:
            # Indexes last: while one is there, the head it opens with still tells what its snapshot named.
            repository.store.delete(sorted(doomed, key=lambda name: "/index-" in name))
            repository.store.delete([mark.name])
    return report


def _check_short_grace(repository: Repository, keep: Needed) -> None:
    if keep.live_claims:
        raise UsageError(
            f"{keep.live_claims} snapshots are being made; with a grace of less than a day, prune could take what they build on.",
            safe="Nothing was deleted.",
            remedy="Wait until they are done, or leave --grace alone.",
        )
    if not repository.store.capabilities.consistent_list:
        raise UsageError(
            "This store's lists can be late, so that a snapshot being made may not show; a grace of less than a day is not safe there.",
            safe="Nothing was deleted.",
            remedy="Leave --grace alone.",
        )


def prune(repository: Repository, *, grace: float = GRACE, dry_run: bool = False) -> Report:
    """Sweep what is due, then mark what is new; with a grace of 0, mark first and sweep that too. Needs no key.

    Raises `RollbackSuspected` if a manifest was lost: what it needs would look like garbage.
    """
    if grace < 0:
        raise UsageError("--grace can't be negative.")
    catalogue.check_lost(repository, catalogue.ids(repository))
    if grace == 0:
        marked = mark(repository, dry_run=dry_run)
        swept = sweep(repository, grace=grace, dry_run=dry_run, besides=marked.marked if dry_run else ())
    else:
        swept = sweep(repository, grace=grace, dry_run=dry_run)
        marked = mark(repository, dry_run=dry_run)
    clean_claims(repository, dry_run=dry_run)
    swept.marked = marked.marked
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

    `damaged`: also one whose manifest can't be verified, or was lost. Returns what was removed, if it could be read.
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
        if catalogue.removed_on_purpose(repository, snapshot):
            _forget_receipts(repository, snapshot)  # a removal that was cut short
            return None
        if not damaged:
            raise
    made = Removal(snapshot=snapshot, manifest_sha256=sha256, time=rfc3339(repository.clock.now()))
    repository.store.put(names.removed(snapshot), repository.sign("removal", made))
    repository.store.delete([names.manifest(snapshot)])
    _forget_receipts(repository, snapshot)
    return found


def _forget_receipts(repository: Repository, snapshot: str) -> None:
    for prefix in (names.RECEIPTS, names.COPIES):
        repository.store.delete([info.name for info in repository.store.list(f"{prefix}{snapshot}/")])
