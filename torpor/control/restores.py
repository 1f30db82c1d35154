"""Restoring a snapshot: manifest → keys for this job only → grant → the host's job."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from torpor.control import apart, catalogue, copylist, fallback, heads, ongoing
from torpor.control.catalogue import Snapshot
from torpor.control.commit import data_keys, fetch_index, open_index
from torpor.control.granting import ForRestore
from torpor.control.ongoing import Ongoing, Slot
from torpor.control.repository import Note, Repository
from torpor.errors import HostFailed, Malformed, UsageError
from torpor.events import Event, Listener
from torpor.format import crypto, meta, names
from torpor.jobs import PATIENCE, Mode, Owners, RestoreJob, RestoreKeys, RestoreResult, Result, Target, name_of, show_path
from torpor.remote.host import GOES_ON, Host, Lasting


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`maps`: old root path → where it goes. Without them one root goes to `target` itself, several below it by their old paths.

    `cache`, `cache_bytes`: a folder of the host that keeps packs, and its bound; as the settings say unless given.
    """

    mode: Mode = "new"
    owners: Owners = "numbers"
    setuid: bool = False
    dry_run: bool = False
    maps: dict[bytes, bytes] = msgspec.field(default_factory=dict)
    memory: int = 0
    workers: int = 0
    rate: int = 0
    patience: float = PATIENCE
    tune: bool = False
    cache: bytes = b""
    cache_bytes: int = 0


def restore_keys(repository: Repository, snapshot: Snapshot) -> tuple[RestoreKeys, list[str]]:
    """The keys a host needs for this snapshot (never a data key), and the names of its packs."""
    head = heads.head_of(repository, snapshot.manifest)
    keys = data_keys(repository, snapshot.manifest.keyring)
    writer = names.writer_of(snapshot.manifest.index.name)
    strange = next((pack.name for pack in head.packs if names.writer_of(pack.name) not in keys), None)
    if strange is not None:
        raise Malformed(
            f"Snapshot {snapshot.id} names pack {strange}, and its manifest has no key for that.",
            safe="Nothing was written.",
            remedy="Restore another snapshot.",
        )
    packs = {pack.name: crypto.pack_key(keys[names.writer_of(pack.name)], pack.name, pack.salt) for pack in head.packs}
    root = repository.private().private.root
    return RestoreKeys(crypto.id_key(root, snapshot.manifest.lineage), crypto.index_key(keys[writer], writer), packs), list(packs)


def roots_of(repository: Repository, snapshot: Snapshot) -> list[meta.Root]:
    """The roots as the index has them."""
    ref = snapshot.manifest.index
    with fetch_index(repository, ref) as spool:
        return open_index(repository, spool, ref, data_keys(repository, snapshot.manifest.keyring), snapshot.id).meta.roots


def plan_targets(roots: list[meta.Root], target: bytes | None, maps: dict[bytes, bytes]) -> list[Target]:
    """Which root goes where. Raises `UsageError` if that is not clear."""
    out: list[Target] = []
    left = dict(maps)
    for number, root in enumerate(roots):
        wanted = left.pop(root.path, None) or left.pop(root.name, None)
        if wanted is not None:
            out.append(Target(number, wanted))
        elif target is not None and len(roots) == 1:
            out.append(Target(number, target if root.kind == "directory" else os.path.join(target, root.name)))
        elif target is not None:
            out.append(Target(number, os.path.join(target, root.path.lstrip(b"/"))))
    if left:
        known = ", ".join(show_path(root.path) for root in roots)
        raise UsageError(f"The snapshot has no folder {show_path(next(iter(left)))}; it has {known}.")
    if not out:
        raise UsageError("No target was given.", remedy="Name a folder, or map folders one by one with --map OLD=NEW.")
    return out


def restore(
    repository: Repository, host: Host, snapshot_id: str, target: bytes | None, state: bytes, options: Options, listen: Listener
) -> RestoreResult:
    """Restore a snapshot on `host`. Raises `TorporError`; a restore that ended early goes on when it is run again.

    Where jobs outlive their control side (`Lasting`), one that an earlier process began is followed if all that was asked for is the same.
    """
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        listen(Event(kind="note", at=0.0, level="warning", text=text))

    asked, reach = repository.store, repository.reach
    repository, plan = _plan_somewhere(repository, snapshot_id, target, options, note)
    snapshot = plan.snapshot
    catalogue.pin(repository, snapshot)
    ref = snapshot.manifest.index
    copies = copylist.stores_of(repository, snapshot_id, notes)
    if repository.store is not asked and asked.url not in (store.url for store in copies):
        copies.append(asked)  # it does not give the manifest, but may have packs
    if not isinstance(host, Lasting):  # it is this computer
        apart.check(repository.home, [store.url for store in (asked, repository.store, *copies)], plan.targets)
    copies = [reach(store) for store in copies]
    grants = ForRestore(msgspec.structs.replace(repository, store=reach(repository.store)), [ref.name, *plan.packs], copies)
    folder, bound = options.cache or os.fsencode(repository.settings.cache), options.cache_bytes or repository.settings.cache_bytes

    def job(id: str) -> RestoreJob:
        return RestoreJob(
            repository=repository.id, snapshot=snapshot.id, lineage=snapshot.manifest.lineage, writer=names.writer_of(ref.name), index=ref,
            keys=plan.keys, targets=plan.targets, state=state, grant=grants.first(),
            mode=options.mode, owners=options.owners, setuid=options.setuid, dry_run=options.dry_run,
            memory=options.memory, workers=options.workers, rate=options.rate, patience=options.patience, tune=options.tune,
            gpu=repository.settings.gpu,
            places=[store.url for store in (repository.store, *copies)], cache=folder, cache_bytes=bound if folder else 0, id=id,
        )  # fmt: skip

    wanted = (snapshot.id, plan.targets, options)
    with ongoing.opened(repository, host, "restore", [place.path for place in plan.targets], wanted) as slot:
        result = _drive(repository, host, job, grants, slot, listen)
    if not isinstance(result, RestoreResult):
        raise HostFailed("The host answered another job than it was given.")
    result.notes = notes + result.notes
    return result


def _drive(
    repository: Repository, host: Host, job: Callable[[str], RestoreJob], grants: ForRestore, slot: Slot, listen: Listener
) -> Result:
    """Follow the job that an earlier process began, if it is the same; else begin it."""
    hear, kept = slot.hearing(listen), slot.ongoing
    if kept is not None and isinstance(host, Lasting) and kept.wanted == slot.wanted and slot.is_recent():
        slot.tell(listen)
        with _left_if_it_fails(slot):
            result = host.attach(kept.name, hear, grants.more)
        if result is not None:
            slot.done()
            return result
    slot.clear()
    with _left_if_it_fails(slot):
        begun = job(secrets.token_hex(8) if slot.lasts else "")
        now = repository.clock.now()
        slot.keep(Ongoing(name=name_of(begun), wanted=slot.wanted, begun=now, seen=now))
        result = host.run(begun, hear, grants.more)
    slot.done()
    return result


@contextmanager
def _left_if_it_fails(slot: Slot) -> Iterator[None]:
    try:
        yield
    except GOES_ON:
        raise
    except BaseException:
        slot.failed()
        raise


class _Plan(msgspec.Struct, frozen=True):
    """What a job needs to know of a snapshot."""

    snapshot: Snapshot
    keys: RestoreKeys
    packs: list[str]
    targets: list[Target]


def _plan(repository: Repository, snapshot_id: str, target: bytes | None, options: Options) -> _Plan:
    snapshot = catalogue.load(repository, snapshot_id)
    keys, packs = restore_keys(repository, snapshot)
    return _Plan(snapshot, keys, packs, plan_targets(roots_of(repository, snapshot), target, options.maps))


def _plan_somewhere(
    repository: Repository, snapshot_id: str, target: bytes | None, options: Options, note: Note
) -> tuple[Repository, _Plan]:
    """The plan, and where its manifest and index were read: in a copy, if the repository does not give them."""
    try:
        return repository, _plan(repository, snapshot_id, target, options)
    except fallback.FAILURES as error:
        first = error
    for copy in fallback.others(repository, snapshot_id, note):
        try:
            plan = _plan(copy, snapshot_id, target, options)
        except fallback.FAILURES as error:
            note(f"The copy at {copy.store.url} does not help: {error.what}")
            continue
        note(f"{repository.store.url} does not give the snapshot's manifest or index: {first.what} Reading the copy at {copy.store.url}.")
        return copy, plan
    raise first
