"""Taking a snapshot, start to end: probe → claim → grant → the host's job → commit."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from torpor.clock import parse_rfc3339
from torpor.control import catalogue, claims, distrust, heads, marks, ongoing, receipts
from torpor.control.catalogue import Snapshot
from torpor.control.commit import Commit
from torpor.control.granting import ForSnapshot
from torpor.control.ongoing import Ongoing, Slot
from torpor.control.repository import Repository
from torpor.errors import ClaimLost, Damaged, HostFailed, Interrupted, Malformed, NotFound, StorageUnavailable
from torpor.events import Listener
from torpor.format import crypto, names
from torpor.format.manifest import Claim, Private
from torpor.jobs import PATIENCE, Codec, HostKeys, ProbeJob, ProbeResult, Result, Scope, SnapshotJob, SnapshotResult, show_path
from torpor.remote.host import GOES_ON, Host, Lasting
from torpor.storage.base import PACKS

_ATTEMPTS = 1000  # dead attempts that a host may want to go on from


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to take a snapshot. `compare`: decode and compare everything that is encoded. `memory` to `tune` as in `SnapshotJob`."""

    name: str = ""
    machine: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    codec: Codec = "auto"
    level: int = 0
    compare: bool = False
    rescan: bool = False
    memory: int = 0
    workers: int = 0
    rate: int = 0
    patience: float = PATIENCE
    tune: bool = False


class Taken(msgspec.Struct, frozen=True):
    """A committed snapshot and what its host reported. `exposed_until`: seconds since 1970 until when its host could still write over what
    it put, in stores that have no way to prevent that; 0 if it can't."""

    snapshot: Snapshot
    result: SnapshotResult
    seconds: float
    exposed_until: float = 0.0


class _Base(msgspec.Struct):
    """What a new snapshot may build on."""

    parents: list[Snapshot] = msgspec.field(default_factory=list)
    allowed: dict[str, int] = msgspec.field(default_factory=dict)
    verified: list[str] = msgspec.field(default_factory=list)
    continues: list[str] = msgspec.field(default_factory=list)
    recorded: str | None = None


class _Attempt(msgspec.Struct):
    """What the commit of one attempt needs to know, whichever process began it."""

    claim: Claim
    attempt: str
    parents: list[Snapshot]
    allowed: dict[str, int]


def take(repository: Repository, host: Host, scope: Scope, state: bytes, options: Options, listen: Listener) -> Taken:
    """Save `scope` of `host` as a new snapshot. `state` is the host's folder for records.

    Where jobs outlive their control side (`Lasting`), one that an earlier process began is followed if all that was asked for is the same.
    Raises `TorporError`; then there is no new manifest, and what reached the store is used by the next run.
    """
    began = time.monotonic()
    repository.private()
    with ongoing.opened(repository, host, "snapshot", scope.roots, (scope, options)) as slot:
        made = _follow(repository, host, scope, options, listen, slot) or _begin(repository, host, scope, state, options, listen, slot)
    return Taken(made[0], made[1], time.monotonic() - began, made[2])


def _begin(
    repository: Repository, host: Host, scope: Scope, state: bytes, options: Options, listen: Listener, slot: Slot
) -> tuple[Snapshot, SnapshotResult, float]:
    keys = repository.private()
    probe = host.run(ProbeJob(repository=repository.id, scope=scope, state=state), listen)
    if not isinstance(probe, ProbeResult) or not _is_sound(probe):
        raise HostFailed("The host answered a question that was not asked.")
    if probe.lineage is not None and not _is_its_own(keys.private.root, probe.lineage, probe.ticket):
        # A host that names a lineage it was never given gets nothing of it: neither id key, nor pack names.
        probe = ProbeResult(rental=probe.rental)
    lineage = probe.lineage or secrets.token_hex(16)
    snapshot = names.snapshot_id(repository.clock.now(), secrets.token_bytes(4))
    attempt = secrets.token_hex(4)
    base = _base(repository, lineage, probe)
    claim = claims.new(repository, snapshot, lineage, [heads.parent_of(p.manifest) for p in base.parents], base.continues)
    claims.write(repository, claim)
    with _left_if_it_fails(repository, snapshot, slot):
        base.parents = _still_there(repository, base.parents)
        _allow(repository, base)
        _keep(slot, claim, attempt, base)
        grants = ForSnapshot(repository, snapshot, attempt, slot.note)
        job = SnapshotJob(
            repository=repository.id, snapshot=snapshot, attempt=attempt, lineage=lineage,
            keys=HostKeys(crypto.id_key(keys.private.root, lineage), repository.box_public),
            scope=scope, state=state,
            grant=grants.first(),
            allowed=base.allowed, verified=base.verified, continues=base.continues,
            codec=options.codec, level=options.level, compare=options.compare, rescan=options.rescan,
            memory=options.memory, workers=options.workers, rate=options.rate, patience=options.patience, tune=options.tune,
            gpu=repository.settings.gpu,
        )  # fmt: skip
        made = _finish(
            repository, _Attempt(claim, attempt, base.parents, base.allowed), scope, options, grants,
            lambda: host.run(job, slot.hearing(listen), grants.more),
        )  # fmt: skip
        if made is None:
            raise HostFailed("The host gave no answer.")
    slot.done()
    return made


def _keep(slot: Slot, claim: Claim, attempt: str, base: _Base) -> None:
    name, now = f"{claim.snapshot}-{attempt}", parse_rfc3339(claim.created)
    slot.keep(Ongoing(
        name=name, wanted=slot.wanted, begun=now, seen=now, claim=claim, attempt=attempt,
        parents=[parent.id for parent in base.parents], allowed=base.allowed,
    ))  # fmt: skip


def _follow(
    repository: Repository, host: Host, scope: Scope, options: Options, listen: Listener, slot: Slot
) -> tuple[Snapshot, SnapshotResult, float] | None:
    """Go on with a job that another process began; None if there is none that can be used."""
    kept = slot.ongoing
    if kept is None or kept.claim is None or not isinstance(host, Lasting):
        slot.clear()
        return None
    snapshot = kept.claim.snapshot
    grants = ForSnapshot(repository, snapshot, kept.attempt, slot.note, kept.revocations)
    attempt = _revived(repository, kept, slot)
    made = None
    with _left_if_it_fails(repository, snapshot, slot):
        if attempt is not None:
            slot.tell(listen)
            made = _finish(repository, attempt, scope, options, grants, lambda: host.attach(kept.name, slot.hearing(listen), grants.more))
    if made is not None:
        slot.done()
    else:
        slot.clear()
        grants.end()
        if snapshot in catalogue.ids(repository):  # it was committed, and the process died then
            claims.release(repository, snapshot)
        else:
            _leave(repository, snapshot)
    return made


def _revived(repository: Repository, kept: Ongoing, slot: Slot) -> _Attempt | None:
    """The attempt, if its result would still be committed: asked for in the same way, its claim alive, its parents there."""
    if kept.claim is None or kept.wanted != slot.wanted or kept.claim.snapshot in catalogue.ids(repository):
        return None
    try:
        claim = claims.renew(repository, kept.claim)
        parents = [catalogue.load(repository, parent) for parent in kept.parents]
    except (ClaimLost, NotFound, Damaged, Malformed):
        return None
    return _Attempt(claim, kept.attempt, parents, kept.allowed)


def _finish(
    repository: Repository, attempt: _Attempt, scope: Scope, options: Options, grants: ForSnapshot, job: Callable[[], Result | None]
) -> tuple[Snapshot, SnapshotResult, float] | None:
    """From the job to the manifest. None if the host knows of no job."""
    with claims.kept(repository, attempt.claim):
        try:
            result = job()
        except GOES_ON:
            raise  # with what it was given
        except BaseException:
            grants.end()
            raise
        exposed = grants.end()  # before the commit counts: from here on the host changes nothing, where the store can see to that
        if result is None:
            return None
        if not isinstance(result, SnapshotResult):
            raise HostFailed("The host answered another job than it was given.")
        newest = attempt.parents[-1] if attempt.parents else None
        private = Private(options.name, options.machine, result.rental, [show_path(root) for root in scope.roots], options.labels)
        commit = Commit(repository, attempt.claim, attempt.attempt, attempt.parents, attempt.allowed)
        generation = newest.manifest.generation + 1 if newest else 1
        try:
            return commit.run(result, private, generation, newest.id if newest else None), result, exposed
        except (StorageUnavailable, Interrupted, KeyboardInterrupt) as error:
            raise _Uncommitted from error


class _Uncommitted(Exception):
    """The job is done and its commit was kept from happening: the next run commits it, where the host still has the result."""


@contextmanager
def _left_if_it_fails(repository: Repository, snapshot: str, slot: Slot) -> Iterator[None]:
    """Clear away what a failed attempt leaves, but for what the next run can use."""
    try:
        yield
    except GOES_ON:
        raise
    except _Uncommitted as wrapped:
        if not slot.lasts:
            _leave(repository, snapshot)
        raise (wrapped.__cause__ or wrapped) from None
    except BaseException:
        if slot.failed():
            _leave(repository, snapshot)
        raise


def _is_its_own(root: bytes, lineage: str, ticket: bytes) -> bool:
    return hmac.compare_digest(ticket, crypto.ticket(crypto.id_key(root, lineage)))


def _is_sound(probe: ProbeResult) -> bool:
    """Whether what a host remembers can be true: it becomes part of names."""
    ids = [*probe.continues, *([probe.snapshot] if probe.snapshot is not None else [])]
    return (probe.lineage is None or names.is_hex32(probe.lineage)) and len(ids) <= _ATTEMPTS and all(map(names.is_snapshot_id, ids))


def _base(repository: Repository, lineage: str, probe: ProbeResult) -> _Base:
    """Snapshots of this lineage to build on: the one the host's record is of, and the newest. Dead attempts that can go on."""
    base = _Base(recorded=probe.snapshot)
    known = catalogue.ids(repository)
    catalogue.check_pins(repository, known)
    base.continues = [snapshot for snapshot in probe.continues if snapshot not in known]
    mine = _newest(repository, lineage, known)
    if probe.snapshot in known and (not mine or mine[0].id != probe.snapshot):
        recorded = _try_load(repository, probe.snapshot)
        if recorded is not None and recorded.manifest.lineage == lineage:
            mine.append(recorded)
    elif probe.snapshot is not None and probe.snapshot not in known:
        base.continues.append(probe.snapshot)
    base.parents = sorted(mine, key=lambda snapshot: snapshot.id)
    return base


def _newest(repository: Repository, lineage: str, known: list[str]) -> list[Snapshot]:
    """The newest snapshot of a lineage, if there is one."""
    for snapshot in reversed(known):
        found = _try_load(repository, snapshot)
        if found is not None and found.manifest.lineage == lineage:
            return [found]
    return []


def _try_load(repository: Repository, snapshot: str) -> Snapshot | None:
    """A snapshot to build on; None if it is gone, or damaged: that harms itself, and none that is made without it."""
    try:
        return catalogue.load(repository, snapshot)
    except (NotFound, Damaged, Malformed):
        return None


def _still_there(repository: Repository, parents: list[Snapshot]) -> list[Snapshot]:
    """Parents whose manifests exist now that the claim is written: only those are protected for sure."""
    known = set(catalogue.ids(repository))
    return [parent for parent in parents if parent.id in known]


def _allow(repository: Repository, base: _Base) -> None:
    """List the packs that the job may name: of its parents, and of its own dead attempts; present ones only.

    Not those that a prune has marked: of a snapshot that was removed, say. The commit would refuse them. Nor damaged ones.
    """
    unfit = {name for mark in marks.load_all(repository) for name in mark.objects}
    unfit |= {PACKS + name for name in distrust.packs(repository)}
    for parent in base.parents:
        try:
            head = heads.head_of(repository, parent.manifest)
        except (NotFound, Damaged, Malformed):
            continue  # its index is damaged: what it names is stored anew
        present = heads.present(repository, head.packs)
        there = {name: size for name, size in present.items() if PACKS + name not in unfit}
        base.allowed |= there
        # What the host's record says of a pack is trusted only if that very snapshot's index was checked against the packs: another
        # one that names the same packs says nothing of what the record's index calls their chunks.
        if parent.id == base.recorded and receipts.fully_verified(repository, parent):
            base.verified += list(there)
    for snapshot in base.continues:
        for info in repository.store.list(f"{PACKS}{snapshot}/"):
            name = info.name[len(PACKS) :]
            if names.is_pack(name) and info.name not in unfit:
                base.allowed[name] = info.size


def _leave(repository: Repository, snapshot: str) -> None:
    """A failed attempt keeps its claim if it left packs that the next run can use; otherwise nothing is left behind."""
    if next(iter(repository.store.list(f"{PACKS}{snapshot}/")), None) is None:
        claims.release(repository, snapshot)
