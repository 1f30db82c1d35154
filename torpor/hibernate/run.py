"""A snapshot on one screen: walk beside the record → read → compress → seal → pack → put → index."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from torpor import __version__
from torpor.codecs.table import by_id
from torpor.errors import HostFailed, Interrupted, SourceChanged
from torpor.events import Listener, Progress
from torpor.format import crypto, index, meta, names
from torpor.format.chunks import ChunkList
from torpor.format.version import CHUNK_MAX
from torpor.gpu import detect
from torpor.hibernate.assemble import Assembler, codec_use, owner_names
from torpor.hibernate.collect import Collector
from torpor.hibernate.dedupe import Carrier, Dedupe, from_journals, from_record, ids_of
from torpor.hibernate.openfiles import mapped_for_writing
from torpor.hibernate.packer import OpenPack, Packer, PackList
from torpor.hibernate.tools import Shared, Worker
from torpor.jobs import PACKS_ASKED, Granter, SnapshotJob, SnapshotResult, Traffic, show_path
from torpor.plan import limits
from torpor.storage.options import Options
from torpor.storage.transfer import Transfer
from torpor.units import size
from torpor.workspace import excludes, journal, record, system
from torpor.workspace.crew import Crew, Pool, Stop, Stopped
from torpor.workspace.state import State, workspace_id
from torpor.workspace.walk import KERNELS

if TYPE_CHECKING:
    from torpor.hibernate.lane import Gpu, LaneWay
    from torpor.workspace.record import Record


def run(job: SnapshotJob, listen: Listener, ask: Granter | None = None) -> SnapshotResult:
    """Save the job's workspace. Raises `TorporError`; what reached the store by then is journaled and used by the next run."""
    try:
        return _run(job, listen, ask)
    except OSError as error:
        raise system.refused(error, "The snapshot", "No snapshot was made; the workspace and earlier snapshots are untouched.") from error


def _run(job: SnapshotJob, listen: Listener, ask: Granter | None) -> SnapshotResult:
    began = time.monotonic()
    progress = Progress(listen)
    system.raise_file_limit()
    system.keep_heap()
    system.no_math_threads()
    since = time.time_ns()
    for root in job.scope.roots:
        _check_whole(root)
        if os.path.exists(root):
            system.syncfs(root)
    engine = _Engine(job, progress, ask, since)
    try:
        return engine.snapshot(began)
    except (Interrupted, KeyboardInterrupt):
        raise engine.salvage() from None
    except Stopped:
        raise engine.cause() from None
    finally:
        engine.close()


def _check_whole(root: bytes) -> None:
    """A folder that is being restored is no workspace yet: as the newest snapshot it would take the place of the whole one."""
    if os.path.isfile(os.path.join(root, excludes.MARK)):
        raise SourceChanged(
            f"{show_path(root)} is being restored, or a restore of it did not end: not all of its files are there.",
            safe="No snapshot was made; the workspace and earlier snapshots are untouched.",
            remedy="Wait for the restore, or run it again to finish it. To save what is there all the same, remove "
            f"{show_path(excludes.MARK)} in it.",
        )


def _tune() -> dict[str, str]:
    from torpor.workspace.tuning import tune

    return {**tune().outcomes}


class _Sent(msgspec.Struct):
    objects: int = 0
    bytes: int = 0


class _Engine:
    """Wires the parts of one snapshot and takes them apart again."""

    def __init__(self, job: SnapshotJob, progress: Progress, ask: Granter | None, since: int) -> None:
        self._job = job
        self._progress = progress
        self._state = State(job.state)
        self._rental = self._state.rental()
        self._workspace = workspace_id(job.repository, job.scope.roots)
        self._stop = Stop()
        self._transfer = Transfer(job.grant, ask, options=Options(rate=job.rate, deadline=job.patience))
        self._transfer.more = self._next_packs
        self._tuned = _tune() if job.tune else {}
        self._sent = _Sent()
        self._memory = limits.budget(job.memory, system.total_memory(), remote=self._transfer.remote)
        fit = limits.plan(self._memory, system.cores(), job.workers, remote=self._transfer.remote)
        if not job.memory and (text := limits.told(self._memory, fit)):
            self._progress.note(text)

        data_key = secrets.token_bytes(32)
        self._writer = names.writer(job.snapshot, job.attempt)
        info = crypto.data_key_info(job.repository, self._writer)
        self._keys = {self._writer: crypto.box_seal(job.keys.box, data_key, info)}
        self._chunks, self._packs = ChunkList(), PackList()
        self._packer = Packer(
            job.repository, job.snapshot, job.attempt, data_key, self._chunks, self._packs, fit.arenas, self._stop, self._full
        )
        self._record = self._open_record()
        self._used_up: list[bytes] = []  # journals of dead attempts that this one builds on
        self._carrier: Carrier | None = None
        dedupe = self._dedupe()
        head = journal.Head(
            job.snapshot, self._writer, job.lineage, crypto.ticket(job.keys.id_key), job.repository, self._keys[self._writer]
        )
        folder = self._state.journals(self._workspace)
        self._journal = journal.Journal(os.path.join(folder, f"{job.snapshot}-{job.attempt}".encode()), head)
        self._shared = Shared(
            id_key=job.keys.id_key,
            packer=self._packer,
            dedupe=dedupe,
            progress=progress,
            policy=job.codec,
            level=job.level,
            compare=job.compare,
            since=since,
            mapped=mapped_for_writing([os.path.abspath(root) for root in job.scope.roots]),
        )
        self._writer_record = record.RecordWriter(self._state.record(self._workspace))
        self._assembler = Assembler(
            index.Sections(job.repository, self._writer, crypto.index_key(data_key, self._writer)),
            self._writer_record,
            self._chunks,
            os.path.dirname(self._journal.path),
        )
        self._buffers = Pool(fit.workers + 2, CHUNK_MAX, self._stop)
        self._gpu = self._find_gpu()
        self._crew = Crew("read", fit.workers, 2 * fit.workers, self._stop, lambda: Worker(self._shared))
        self._uploads: Crew[None] = Crew("upload", fit.uploads, fit.arenas, self._stop, lambda: None)

    def _find_gpu(self) -> Gpu | None:
        """The GPU that may code planes once there are many; the workers' crew grows by its threads then."""
        job = self._job
        if job.gpu != "auto" or not detect.present():
            return None
        from torpor.hibernate.lane import Gpu

        def grow(ways: Sequence[LaneWay], wanted: Callable[[], bool]) -> None:
            self._crew.grow("gpu", [partial(Worker, self._shared, way) for way in ways], wanted)

        self._shared.gpu = Gpu(self._progress, self._memory, job.compare, self._shared.hash, grow)
        return self._shared.gpu

    def _open_record(self) -> Record | None:
        found = record.open_record(self._state.record(self._workspace))
        if found is not None and (found.footer.lineage != self._job.lineage or found.footer.rental != self._rental):
            found.close()
            return None
        return found

    def _dedupe(self) -> Dedupe:
        job, lock = self._job, self._packer.lock
        dedupe = Dedupe(lock)
        journals: list[list[journal.JournalPack]] = []
        for snapshot, path in self._state.unfinished(self._workspace):
            found = journal.read(path)
            if found is None or not {snapshot, found[0].snapshot} <= {*job.continues} or found[0].lineage != job.lineage:
                journal.remove(path)
                continue
            self._keys[found[0].writer] = found[0].sealed_key
            self._used_up.append(path)
            journals.append(found[1])
        # Packs of a dead attempt help only if its data key is known from the journal.
        dead = set(job.continues)
        allowed = {
            name: size for name, size in job.allowed.items() if names.snapshot_of(name) not in dead or names.writer_of(name) in self._keys
        }
        if journals:
            stored, table = from_journals(journals)
            dedupe.use(lambda: table, Carrier(stored, self._chunks, self._packs, allowed, set(), lock))
        if self._record is not None:
            old = self._record
            self._carrier = Carrier(from_record(old), self._chunks, self._packs, allowed, set(job.verified), lock)
            dedupe.use(lambda: ids_of(old), self._carrier)
        return dedupe

    def snapshot(self, began: float) -> SnapshotResult:
        job, progress, shared = self._job, self._progress, self._shared
        progress.stage("upload")
        roots = [os.path.abspath(root) for root in job.scope.roots]
        root_names = meta.root_names(roots)
        stable = all(system.stable_inodes(root) for root in roots if os.path.exists(root))
        collector = Collector(
            job.scope.without(job.state),
            root_names,
            shared,
            self._crew,
            None if job.rescan else self._record,
            self._carrier,
            stable,
            self._buffers,
            self._assembler.block,
        )
        collector.run()
        self._crew.finish()
        progress.end("read")
        self._packer.flush()
        self._uploads.finish()
        progress.end("compress")
        problems = sorted((p for p in shared.problems if p.kind != "mount"), key=lambda p: p.kind == "special")
        mounts = [show_path(p.path) for p in shared.problems if p.kind == "mount" and p.detail != KERNELS]
        used = [*job.scope.excludes, *(excludes.DEFAULTS if job.scope.default_excludes else ())]
        users, groups = owner_names(collector.users, collector.groups)
        kinds = ["directory" if os.path.isdir(root) else "file" for root in roots]
        described = [meta.Root(name, path, kind) for name, path, kind in zip(root_names, roots, kinds, strict=True)]
        about = meta.Meta(job.snapshot, described, users, groups, used)
        head = self._assembler.finish(about, shared.problems, self._packs.complete())
        ref = self._assembler.put(names.index(job.snapshot, job.attempt), head, self._transfer.put)
        self._transfer.sync([ref.name])
        self._sent.bytes += ref.size
        progress.stage("upload").add(ref.size)
        progress.end("upload")
        footer = record.Footer(
            lineage=job.lineage,
            ticket=crypto.ticket(job.keys.id_key),
            snapshot=job.snapshot,
            rental=self._rental,
            roots=roots,
            stable_inodes=stable,
        )
        self._assembler.keep_record(footer, self._packs, b"\1" * len(self._chunks))
        for path in self._used_up:
            self._state.hand_on(path, job.snapshot)
        mix, sealed = codec_use(self._chunks, lambda codec: by_id(codec).name)
        assembler = self._assembler
        return SnapshotResult(
            snapshot=job.snapshot, rental=self._rental, index=ref, keys=self._needed_keys(),
            files=assembler.files, directories=assembler.directories, links=assembler.links, entries=assembler.entries,
            raw_bytes=assembler.raw_bytes, stored_bytes=sealed + ref.size, new_bytes=self._sent.bytes,
            packs=len(self._packs.packs), chunks=len(self._chunks), codecs=mix,
            mounts=mounts[:1000], problems=_counts(problems), problem_paths=[f"{p.kind}: {show_path(p.path)}" for p in problems[:1000]],
            stages=progress.busy(), seconds=round(time.monotonic() - began, 3), compared=job.compare,
            read_files=shared.read_files, read_bytes=shared.read_bytes,
            versions={"torpor": __version__, "python": sys.version.split()[0], "system": system.name()},
            excludes=used, traffic=Traffic(*self._transfer.counters()), tuned=self._tuned,
        )  # fmt: skip

    def _needed_keys(self) -> dict[str, bytes]:
        """Sealed data keys of this attempt, and of the dead ones whose packs are named."""
        needed = {names.writer_of(pack.name) for pack in self._packs.complete()} | {self._writer}
        return {writer: key for writer, key in self._keys.items() if writer in needed}

    def _next_packs(self, verb: str, name: str) -> list[str]:
        """What to ask for when the grant lacks a pack: it and those that will follow. Never an index: one is asked for by its name."""
        number = names.pack_number(name)
        if verb != "put" or number is None:
            return [name]
        return [names.pack(self._job.snapshot, self._job.attempt, number + step) for step in range(PACKS_ASKED)]

    def _full(self, pack: OpenPack) -> None:
        """A pack is complete: hand it to an uploader."""
        self._progress.stage("upload").expect(pack.used)
        self._uploads.put(lambda _: self._upload(pack))

    def _upload(self, pack: OpenPack) -> None:
        from blake3 import blake3

        began = time.perf_counter()
        whole = pack.finish(self._job.repository)
        digest = blake3(whole).digest()
        info = self._transfer.put(pack.name, [whole], digest)
        with self._packer.lock:
            entry = index.Pack(pack.name, len(whole), digest, pack.salt, index.DIGESTS[info.digest_kind], info.digest)
            self._packs.done(pack.number, entry)
            self._journal.pack(journal.JournalPack(pack.name, len(whole), digest, pack.salt, pack.rows_bytes(), bytes(pack.slices)))
            self._sent.objects += 1
            self._sent.bytes += len(whole)
        self._packer.arenas.give(pack.arena)
        self._progress.stage("upload").add(len(whole), time.perf_counter() - began)

    def cause(self) -> BaseException:
        """Why the threads stopped."""
        return self._stop.cause or HostFailed("The job stopped for a reason that nobody noted.")

    def salvage(self) -> Interrupted:
        """Finish what is in hand and tell what is kept. A second interruption ends at once."""
        if self._gpu is not None:
            self._gpu.close()  # nobody waits for it
        if self._stop.cause is None:
            self._crew.call_off()
            self._packer.flush()
            self._uploads.finish()
        sent = f"{size(self._sent.bytes)} in {self._sent.objects} packs"
        return Interrupted(
            "The snapshot was interrupted.",
            safe=f"{sent} are in the store and are not sent again; earlier snapshots are untouched.",
            remedy="Run the same command again to go on from here.",
        )

    def close(self) -> None:
        self._stop.fail(RuntimeError("the job is over"))
        if self._gpu is not None:
            self._gpu.close()
        self._crew.call_off()
        self._uploads.call_off()
        for fd in self._shared.opened:  # of large files that were not finished
            os.close(fd)
        self._assembler.close()
        self._journal.close()
        if self._gpu is not None:
            self._gpu.join()
            if self._gpu.tainted:
                journal.remove(self._journal.path)  # what it stored is not to be found again
        if self._record is not None:
            self._record.close()
        self._transfer.close()


def _counts(problems: list[meta.Problem]) -> dict[str, int]:
    counts = {"unreadable": 0, "vanished": 0, "torn": 0, "special": 0}
    for problem in problems:
        counts[problem.kind] += 1
    return counts
