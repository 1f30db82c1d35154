"""Copying a snapshot to another store, pack by pack through this computer, in the order of writes of docs/format.md.

The copy is a repository of its own: it restores by itself, with the same keys. Each pack is compared with the digest that the index
has of it before it is written, so no secret is needed to know that the copy is right.
"""

from __future__ import annotations

import hashlib
import mmap
import threading
from functools import partial
from typing import IO

import msgspec
from blake3 import blake3

from torpor.control import catalogue, claims, copylist, heads, marks
from torpor.control.catalogue import Snapshot
from torpor.control.commit import check_head_digest, fetch_index, spool_head
from torpor.control.destination import Destination, open_destination
from torpor.control.repository import Repository
from torpor.errors import Damaged, Interrupted, Malformed, TorporError, UsageError
from torpor.events import Listener, Progress
from torpor.format import index, names
from torpor.format.index import Pack
from torpor.format.version import PACK_MAX
from torpor.storage.base import PACKS, Exists, Missing
from torpor.storage.rate import Rate
from torpor.storage.retry import system_timing
from torpor.storage.sources import Sources, StoreSource
from torpor.workspace.crew import Crew, Stop, Stopped

WORKERS = 4  # packs in memory at once: some 130 MB
_PIECE = 4 * 1024 * 1024


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`rate`: bytes a second, 0 for no limit. `reread`: compare what the destination has already, and replace what is damaged."""

    rate: int = 0
    workers: int = WORKERS
    reread: bool = False
    dry_run: bool = False


class Copied(msgspec.Struct):
    """Outcome of a copy. Objects are packs and the index; `kept_…` were there already; `replaced`: found damaged there."""

    snapshot: str
    url: str
    objects: int = 0
    bytes: int = 0
    kept_objects: int = 0
    kept_bytes: int = 0
    replaced: int = 0
    receipts: int = 0
    new_repository: bool = False
    new_snapshot: bool = False
    notes: list[str] = msgspec.field(default_factory=list)
    seconds: float = 0.0
    dry_run: bool = False


def copy(repository: Repository, snapshot_id: str, url: str, options: Options, listen: Listener) -> Copied:
    """Copy one snapshot to the store at `url`. What is there by name and size is not sent again, so an interrupted copy goes on.

    Raises `Damaged`, with the objects' names, if packs can't be read as they should be: then the destination has no manifest of it.
    """
    if options.workers < 1:
        raise UsageError("A copy needs at least one worker.")
    progress = Progress(listen)
    repository.private()
    snapshot = catalogue.load(repository, snapshot_id)
    with fetch_index(repository, snapshot.manifest.index) as spool:
        check_head_digest(spool, snapshot.manifest.index)
        head = index.parse_head(spool_head(spool, snapshot.manifest.index), snapshot.manifest.index.name)
        there = open_destination(repository, url)
        out = Copied(snapshot_id, there.repository.store.url, dry_run=options.dry_run)
        run = _Copy(repository, there, snapshot, head.packs, spool, options, progress, out)
        try:
            run.plan()
            if not options.dry_run:
                run.write()
                _remember(repository, snapshot, out)
        except (Interrupted, KeyboardInterrupt):
            raise _interrupted(out) from None
    out.seconds = round(progress.elapsed(), 3)
    return out


def _remember(repository: Repository, snapshot: Snapshot, out: Copied) -> None:
    try:
        copylist.remember(repository, snapshot, out.url)
    except TorporError as error:
        out.notes.append(f"That the copy exists was noted on this computer alone: {error.what}")


def _interrupted(out: Copied) -> Interrupted:
    return Interrupted(
        f"The copy of {out.snapshot} was interrupted.",
        safe=f"{out.objects} objects were copied to {out.url} and are not sent again; the snapshot itself is untouched.",
        remedy="Run the same command again: it goes on from here.",
    )


class _Room:
    """One worker's memory for a pack."""

    def __init__(self) -> None:
        self._data = bytearray()

    def of(self, size: int) -> memoryview:
        if len(self._data) < size:
            self._data = bytearray(size)
        return memoryview(self._data)[:size]


class _Copy:
    """One copy at work."""

    def __init__(
        self, source: Repository, there: Destination, snapshot: Snapshot, packs: list[Pack], spool: IO[bytes], options: Options,
        progress: Progress, out: Copied,
    ) -> None:  # fmt: skip
        self._source = source
        self._there = there
        self._store = there.repository.store
        self._snapshot = snapshot
        self._packs = packs
        self._spool = spool
        self._options = options
        self._progress = progress
        self._out = out
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._rate = Rate(options.rate, system_timing(self._over.wait))
        others = [store for store in copylist.stores_of(source, snapshot.id, []) if store.url != self._store.url]
        labels = [source.store.url, *(store.url for store in others)]
        self._sources = Sources([StoreSource(store) for store in (source.store, *others)], labels=labels)
        self._damage: dict[str, str] = {}
        self._todo: list[Pack] = []
        self._unread = 0  # packs that are taken to be there by name and size alone

    def plan(self) -> None:
        """What is missing there. With a dry run, that is all."""
        ref, out = self._snapshot.manifest.index, self._out
        out.new_repository = self._there.config is not None and next(iter(self._store.list(names.SNAPSHOTS)), None) is None
        out.new_snapshot = self._store.head(names.manifest(self._snapshot.id)) is None
        has = heads.present(self._there.repository, self._packs)
        self._todo = [pack for pack in self._packs if self._options.reread or pack.name not in has]
        if not self._options.reread:
            kept = [pack for pack in self._packs if pack.name in has]
            self._unread = sum(not self._is_told(pack) for pack in kept)
            out.kept_objects, out.kept_bytes = len(kept), sum(pack.size for pack in kept)
        info = self._store.head(PACKS + ref.name)
        self._index_there = info is not None and info.size == ref.size and (not self._options.reread or self._index_is_right())
        if self._index_there:
            self._keep(ref.size)
        if self._options.dry_run:
            missing = [pack for pack in self._packs if pack.name not in has]
            out.objects = len(missing) + (not self._index_there)
            out.bytes = sum(pack.size for pack in missing) + (0 if self._index_there else ref.size)

    def _is_told(self, pack: Pack) -> bool:
        """Whether the destination itself tells a digest of the pack, which was compared."""
        kind = index.DIGESTS.get(self._store.capabilities.digest)
        return bool(pack.digest) and pack.digest_kind == kind

    def _index_is_right(self) -> bool:
        try:
            fetch_index(self._there.repository, self._snapshot.manifest.index).close()
        except (Damaged, Missing):
            return False
        return True

    def write(self) -> None:
        """Claim → packs → index → checks → manifest → receipts → claim removed."""
        there, snapshot = self._there.repository, self._snapshot
        self._there.write_config(self._source)
        others = sorted({names.snapshot_of(pack.name) for pack in self._packs} - {snapshot.id})
        claim = claims.new(there, snapshot.id, snapshot.manifest.lineage, [], others)
        claims.write(there, claim)
        with claims.kept(there, claim):
            self._send_packs()
            self._send_index()
            if self._damage:
                self._out.notes += self._sources.notes()
                raise self._damaged()
            self._check()
            claims.check(there, claim)
            written = self._send_manifest()
            try:
                claims.check(there, claim)
                self._check_unmarked()
            except TorporError:
                if written:
                    self._store.delete([names.manifest(snapshot.id)])
                raise
            if self._unread:
                self._out.notes.append(
                    f"Receipts were not copied: {self._unread} packs were there already and nobody read them now. Prove the copy with "
                    f"`torpor --storage {self._out.url} verify {snapshot.id}`, or copy with --reread."
                )
            else:
                self._send_receipts()
        claims.release(there, snapshot.id)
        self._out.notes += self._sources.notes()

    def _send_packs(self) -> None:
        stage = self._progress.stage("copy")
        stage.expect(sum(pack.size for pack in self._todo) + (0 if self._index_there else self._snapshot.manifest.index.size))
        stop = Stop()
        crew: Crew[_Room] = Crew("copy", self._options.workers, 2 * self._options.workers, stop, _Room)
        try:
            for pack in self._todo:
                crew.put(partial(self._pack, pack))
            crew.finish()
        except BaseException as error:
            stop.fail(error)
            self._over.set()
            crew.call_off()
            if isinstance(error, Stopped):
                stop.raise_cause()
            raise

    def _pack(self, pack: Pack, room: _Room) -> None:
        try:
            if pack.size > PACK_MAX:
                raise Malformed("it is too large")
            self._one(pack, room.of(pack.size))
        except (Damaged, Malformed, Missing) as error:
            with self._lock:
                self._damage[PACKS + pack.name] = error.what
        except BaseException:
            self._over.set()
            raise
        self._progress.stage("copy").add(pack.size)

    def _one(self, pack: Pack, data: memoryview) -> None:
        name = PACKS + pack.name
        replace = False
        if self._options.reread:
            found = self._reread(pack, data)
            if found:
                self._keep(pack.size)
                return
            replace = found is False
        self._read(pack, data)
        self._put(name, data, replace=replace)

    def _reread(self, pack: Pack, data: memoryview) -> bool | None:
        """Whether the destination has the pack as it should be; None if it has none of that name."""
        try:
            self._store.get_into(PACKS + pack.name, 0, data)
        except Missing:
            return None
        except Damaged:
            return False
        return blake3(data).digest() == pack.blake3

    def _read(self, pack: Pack, data: memoryview) -> None:
        """Fill `data` with the pack as the index has it, from the first place that gives it so."""
        tried: frozenset[int] = frozenset()
        while True:
            used = set()
            for at in range(0, len(data), _PIECE):
                part = data[at : at + _PIECE]
                self._rate.take(len(part))
                if self._over.is_set():
                    raise Stopped
                used.add(self._sources.get_into(pack.name, at, part, tried))
            if blake3(data).digest() == pack.blake3:
                return
            error = Damaged("its BLAKE3 is not the one the index names")
            for place in used:
                self._sources.spoiled(pack.name, place, error)
            tried |= used
            if not self._sources.left(tried):
                raise error

    def _put(self, name: str, data: memoryview, *, replace: bool) -> None:
        try:
            self._store.put(name, data, if_absent=not replace)
        except Exists:  # of another size, or it came meanwhile
            self._store.put(name, data)
            replace = True
        with self._lock:
            self._out.objects += 1
            self._out.bytes += len(data)
            self._out.replaced += replace

    def _keep(self, size: int) -> None:
        with self._lock:
            self._out.kept_objects += 1
            self._out.kept_bytes += size

    def _send_index(self) -> None:
        """From the file that it was checked in; mapped, so that a large one takes no memory."""
        ref = self._snapshot.manifest.index
        if not self._index_there:
            with mmap.mmap(self._spool.fileno(), ref.size, access=mmap.ACCESS_READ) as whole, memoryview(whole) as data:
                found = self._store.head(PACKS + ref.name)
                self._put(PACKS + ref.name, data, replace=found is not None)
            self._progress.stage("copy").add(ref.size)
        self._progress.end("copy")

    def _check_unmarked(self) -> None:
        try:
            wanted = [self._snapshot.manifest.index.name, *(pack.name for pack in self._packs)]
            marks.check_unmarked(self._there.repository, wanted)
        except Damaged as error:
            raise Damaged(
                f"A prune at {self._out.url} has marked what the copy needs: {error.what}",
                safe="No manifest was written there; the snapshot itself is untouched.",
                remedy=f"Finish that prune (`torpor --storage {self._out.url} prune`, once its grace is over), then copy again.",
            ) from None

    def _check(self) -> None:
        """As a commit: nothing is marked, everything is there, the claim lives."""
        self._check_unmarked()
        heads.check_present(self._there.repository, self._packs)
        ref = self._snapshot.manifest.index
        heads.read_head(self._there.repository, ref.name, ref.head_size, ref.head_sha256)

    def _send_manifest(self) -> bool:
        """Whether it was written, and not there before."""
        name = names.manifest(self._snapshot.id)
        data = self._source.store.get(name)
        if hashlib.sha256(data).hexdigest() != self._snapshot.sha256:
            raise Damaged(f"{name} changed while it was copied.", safe="No manifest was written.", remedy="Run the copy again.")
        self._there.repository.verify("manifest", data, name)
        self._store.sync()
        self._store.delete([names.removed(self._snapshot.id)])  # it was removed there once, and comes back
        try:
            self._store.put(name, data, if_absent=True)
        except Exists:
            if self._store.get(name) == data:
                return False
            raise Damaged(
                f"{self._out.url} has another manifest of {self._snapshot.id}.",
                safe="It was left as it is.",
                remedy=f"If it is worthless, `torpor --storage {self._out.url} rm {self._snapshot.id} --damaged`, then copy again.",
            ) from None
        return True

    def _send_receipts(self) -> None:
        """They say what was read of these very packs, wherever those lie."""
        prefix = f"{names.RECEIPTS}{self._snapshot.id}/"
        there = {info.name for info in self._store.list(prefix)}
        for info in self._source.store.list(prefix):
            if info.name in there:
                continue
            try:
                data = self._source.store.get(info.name)
                self._source.verify("receipt", data, info.name)
                self._store.put(info.name, data, if_absent=True)
            except (Missing, Exists, Damaged, Malformed):
                continue
            self._out.receipts += 1

    def _damaged(self) -> Damaged:
        name, why = min(self._damage.items())
        return Damaged(
            f"{len(self._damage)} of {len(self._packs)} packs can't be read as they should be, such as {name}: {why}.",
            safe=f"What is right was copied; {self._out.url} got no manifest of the snapshot.",
            remedy="`torpor verify --full` says what it hurts. Copy from a store that has them whole: `torpor --storage URL copy`.",
        )
