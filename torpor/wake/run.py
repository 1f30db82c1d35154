"""A restore on one screen: fetch the index → survey → compare → download → decode → write → links → metadata → record."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial, reduce
from typing import IO, TYPE_CHECKING

from blake3 import blake3

from torpor.errors import Interrupted, NoSpace, TorporError
from torpor.events import Listener, Progress
from torpor.format.version import CLASS_LARGE
from torpor.gpu import detect
from torpor.jobs import PACKS_ASKED, Ask, Grant, Granter, RestoreJob, RestoreResult, Traffic, show_path
from torpor.plan import fetch, limits
from torpor.storage.base import GrantExpired
from torpor.storage.options import Counters, Options
from torpor.storage.sources import Sources
from torpor.storage.transfer import Transfer
from torpor.wake.compare import Comparer, Wants, want_everything
from torpor.wake.fetcher import Fetcher
from torpor.wake.files import Files, Kept
from torpor.wake.finish import Finisher
from torpor.wake.folders import Folders
from torpor.wake.keep import keep_record
from torpor.wake.locate import fetch_index
from torpor.wake.metadata import Metadata
from torpor.wake.removal import Remover, own_folders
from torpor.wake.survey import Survey
from torpor.wake.targets import anchor, check_space, is_empty, unmark
from torpor.wake.worker import Worker
from torpor.workspace import system
from torpor.workspace.crew import Crew, Stop
from torpor.workspace.indexfile import IndexFile
from torpor.workspace.record import Record, open_record
from torpor.workspace.recorded import Known
from torpor.workspace.state import State, workspace_id

if TYPE_CHECKING:
    from torpor.wake.lane import Gpu


PATIENCE = 45.0  # seconds for which a request that gets nowhere is tried again, where there is a copy to ask


def run(job: RestoreJob, listen: Listener, ask: Granter | None = None) -> RestoreResult:
    """Restore `job.snapshot`. Raises `TorporError`; what was written by then is used by the next run of the same job."""
    progress = Progress(listen)
    system.raise_file_limit()
    system.keep_heap()
    system.no_math_threads()
    options = Options(rate=job.rate, deadline=job.patience)
    if job.grant.fallback is not None:
        options = options._replace(deadline=min(PATIENCE, job.patience))
    transfers = [Transfer(grant, asker, options=options) for grant, asker in _places(job.grant, ask)]
    sources = _sources(job, transfers, progress)
    spool: IO[bytes] | None = None
    try:
        progress.stage("plan")
        spool, index = fetch_index(job, sources)
        following = _following([pack.name for pack in index.head.packs])
        for transfer in transfers:
            transfer.more = following
        sources.know({pack.name: pack.blake3.hex() for pack in index.head.packs})
        result = _Restore(job, progress, sources, index, remote=any(transfer.remote for transfer in transfers)).run()
        result.traffic = Traffic(*reduce(Counters.plus, (transfer.counters() for transfer in transfers)))
        return result
    except (Interrupted, KeyboardInterrupt):
        raise Interrupted(
            "The restore was interrupted.",
            safe="What was written is complete file by file; the snapshot is untouched.",
            remedy="Run the same command again: it goes on from here.",
        ) from None
    except OSError as error:
        raise system.refused(error, "The restore", "What was written is complete file by file; the snapshot is untouched.") from error
    finally:
        if spool is not None:
            spool.close()
        sources.close()


def _places(grant: Grant | None, ask: Granter | None) -> Iterator[tuple[Grant, Granter | None]]:
    """The grant and its fallbacks, each with the way to get more of it: every answer brings as many fallbacks."""
    depth = 0
    while grant is not None:
        yield grant, partial(_ask_below, ask, depth) if ask is not None and depth else ask
        grant, depth = grant.fallback, depth + 1


def _ask_below(ask: Granter, depth: int, wish: Ask) -> Grant:
    grant = ask(wish)
    for _ in range(depth):
        if grant.fallback is None:
            raise GrantExpired("The control side has no more requests for this copy.")
        grant = grant.fallback
    return grant


def _sources(job: RestoreJob, transfers: list[Transfer], progress: Progress) -> Sources:
    """The store, the copies for when it fails, and the cache."""
    cache = None
    if job.cache:
        from torpor.storage.cache import Cache

        cache = Cache(job.cache, job.cache_bytes)
    sources = Sources(transfers, cache, job.places, lambda text: progress.note(text, "warning"))
    sources.know({job.index.name: job.index.sha256})
    return sources


def _following(packs: list[str]) -> Callable[[str, str], list[str]]:
    """What to ask for when the grant lacks a pack: it and those after it, since packs are read about in their order."""
    places = {name: place for place, name in enumerate(packs)}

    def more(verb: str, name: str) -> list[str]:
        place = places.get(name)
        return [name] if verb != "get" or place is None else packs[place : place + PACKS_ASKED]

    return more


def _tune() -> dict[str, str]:
    from torpor.workspace.tuning import tune

    return {**tune().outcomes}


def _id_of(id_key: bytes, data: memoryview) -> bytes:
    return blake3(data, key=id_key).digest()


def _download(fetcher: Fetcher, unit: fetch.Unit, _: None) -> None:
    fetcher.download(unit)


class _Restore:
    def __init__(self, job: RestoreJob, progress: Progress, sources: Sources, index: IndexFile, *, remote: bool) -> None:
        self._job = job
        self._progress = progress
        self._sources = sources
        self._remote = remote
        self._tuned = _tune() if job.tune else {}
        self._index = index
        self._targets = {target.root: os.path.abspath(target.path) for target in job.targets}
        self._state = State(job.state)
        self._stop = Stop()
        self._usable_at = 0.0
        self._gpu: Gpu | None = None
        self._opened: list[Folders | Fetcher] = []  # what threads hold open: closed when they have ended
        self._all_roots = sorted(self._targets) == list(range(len(index.meta.roots)))
        self._workspace = workspace_id(job.repository, [self._targets[root] for root in sorted(self._targets)])

    def run(self) -> RestoreResult:
        record = self._record()
        try:
            self._survey = Survey(self._index, set(self._targets), Known(record) if record else None)
        finally:
            if record is not None:
                record.close()
        files = [number for number, root in enumerate(self._index.meta.roots) if root.kind == "file"]
        if is_empty(self._job):
            self._check_space(self._survey.data_bytes)  # before anything is made that a later restore would take for one in use
        self._anchors, existing = anchor(self._job, files)
        try:
            return self._restore(existing)
        finally:
            if self._gpu is not None:
                self._gpu.close()
                self._gpu.join()
            for opened in self._opened:
                opened.close()
            self._anchors.close()

    def _restore(self, existing: bool) -> RestoreResult:
        job, progress, survey = self._job, self._progress, self._survey
        self._metadata = Metadata(job, self._index.meta)
        self._metadata.occupied = existing or self._anchors.hand_down()
        self._kept = Kept(survey)
        self._remover = Remover(own_folders(job))
        self._finisher = Finisher(survey, self._anchors, self._metadata, self._kept, job.mode == "replace", self._remover)
        if not existing:
            self._check_space(survey.data_bytes)  # before memory is taken for what can't be written
        if not job.dry_run:
            self._finisher.folders()
        self._memory = limits.budget(job.memory, system.total_memory(), remote=self._remote)
        fit = limits.plan(self._memory, system.cores(), job.workers, remote=self._remote)
        if not job.memory and (text := limits.told(self._memory, fit)):
            self._progress.note(text)
        self._lanes = fit.workers
        crew = Crew("decode", fit.workers, 2 * fit.workers, self._stop, self._worker)
        downloads: Crew[None] = Crew("download", fit.downloads, 2 * fit.downloads, self._stop, lambda: None)
        try:
            comparer = None
            if existing:
                comparer = Comparer(
                    survey,
                    self._anchors,
                    job.keys.id_key,
                    self._metadata,
                    self._kept,
                    progress,
                    job.mode == "replace",
                    job.dry_run,
                    self._remover,
                )
                wants = comparer.run(crew)
                progress.end("compare")
            else:
                wants = want_everything(survey)
            try:
                self._check_space(wants.room)
            except NoSpace:
                for root in self._anchors.marked:
                    self._unmark(root)
                raise
            if job.dry_run:
                crew.call_off()
                downloads.call_off()
                return self._result(wants, comparer, None)
            files = Files(self._metadata, self._kept, not existing, job.mode == "replace", self._remover)
            fetcher = self._fetch(wants, files, crew, downloads, fit.buffers)
        except BaseException as error:
            self._stop.fail(error)
            if self._gpu is not None:
                self._gpu.close()  # nobody waits for it
            crew.call_off()
            downloads.call_off()
            if isinstance(error, TorporError | KeyboardInterrupt) or self._stop.cause is error:
                raise
            self._stop.raise_cause()
            raise
        return self._finish(wants, comparer, fetcher)

    def _worker(self) -> Worker:
        worker = Worker(self._survey, self._anchors)
        self._opened.append(worker.folders)
        return worker

    def _check_space(self, needs: Mapping[int, int]) -> None:
        check_space((path, needs.get(root, 0)) for root, path in self._targets.items())

    def _record(self) -> Record | None:
        if not self._all_roots or not any(map(os.path.lexists, self._targets.values())):
            return None
        found = open_record(self._state.record(self._workspace))
        if found is not None and (found.footer.lineage != self._job.lineage or found.footer.rental != self._state.rental()):
            found.close()
            return None
        return found

    def _fetch(self, wants: Wants, files: Files, crew: Crew[Worker], downloads: Crew[None], buffers: int) -> Fetcher:
        job, progress, survey = self._job, self._progress, self._survey
        chunks = self._index.chunks
        wanted = fetch.order(wants.place, wants.priority, chunks)
        units = fetch.units(wanted, wants.place, wants.priority, chunks)
        fetcher = Fetcher(
            job,
            survey,
            wants,
            wanted,
            self._sources,
            files,
            self._metadata,
            self._kept,
            progress,
            self._stop,
            buffers,
            crew,
            self._usable,
        )
        self._opened.append(fetcher)
        if job.gpu == "auto" and detect.present():
            self._use_gpu(wants, crew)
        progress.end("plan")
        progress.stage("download").expect(sum(unit.length for unit in units))
        progress.stage("decompress").expect(wants.bytes)
        progress.stage("write").expect(wants.bytes)
        folders = Folders(survey, self._anchors)
        try:
            fetcher.expect_small(units)
            fetcher.empty_files(folders)
            small = [unit for unit in units if unit.priority < CLASS_LARGE]
            for unit in small:
                downloads.put(partial(_download, fetcher, unit))
            self._finisher.symlinks()
            fetcher.small_done()
            for unit in fetch.apart(units[len(small) :], self._lanes):
                downloads.put(partial(_download, fetcher, unit))
            fetcher.without_pieces(folders)
            downloads.finish()
            progress.end("download")
            crew.finish()
            progress.end("decompress")
            progress.end("write")
        finally:
            folders.close()
        return fetcher

    def _use_gpu(self, wants: Wants, crew: Crew[Worker]) -> None:
        """Let a GPU decode planes, if there are many; the crew grows by its threads."""
        from torpor.wake.lane import gpu_for

        id_key = self._job.keys.id_key
        hash_of = partial(_id_of, id_key)
        self._gpu = gpu_for(self._memory, self._progress, wants.place, self._index.chunks, crew, self._worker, hash_of)

    def _usable(self) -> None:
        """Code, configuration and every small file are there, and all links."""
        self._usable_at = self._progress.moment("usable")

    def _finish(self, wants: Wants, comparer: Comparer | None, fetcher: Fetcher) -> RestoreResult:
        began = time.perf_counter()
        stage = self._progress.stage("finish", "files")
        self._finisher.hardlinks()
        if comparer is not None:
            self._finisher.sweep()
        removed = 0
        if self._job.mode == "replace":
            removed = self._finisher.extras(self._index.meta.excludes, False)
        self._finisher.metadata()
        if self._all_roots:
            checked = dict(fetcher.checked)
            for place, count in (comparer.trusted if comparer else {}).items():
                checked[place] = checked.get(place, 0) + count
            keep_record(
                self._job,
                self._state,
                self._workspace,
                self._survey,
                self._kept,
                checked,
                [self._targets[r] for r in sorted(self._targets)],
            )
        # Last of all: until then, a restore that was killed is known to be unfinished.
        for target in self._job.targets:
            if self._index.meta.roots[target.root].kind == "directory":
                self._unmark(target.root)
        self._finisher.root_times()
        stage.add(self._survey.files, time.perf_counter() - began)
        self._progress.end("finish")
        return self._result(wants, comparer, fetcher, removed)

    def _unmark(self, root: int) -> None:
        handle = self._anchors.open(root)
        try:
            unmark(handle)
        finally:
            os.close(handle)

    def _result(self, wants: Wants, comparer: Comparer | None, fetcher: Fetcher | None, removed: int = 0) -> RestoreResult:
        survey, progress = self._survey, self._progress
        if fetcher is None and self._job.mode == "replace":
            removed = self._finisher.extras(self._index.meta.excludes, True)
        return RestoreResult(
            snapshot=self._job.snapshot, files=survey.files, directories=len(survey.folders),
            links=len(survey.symlinks) + len(survey.hardlinks), raw_bytes=survey.raw_bytes,
            fetched_bytes=fetcher.fetched if fetcher else 0, written_files=wants.files, written_bytes=wants.bytes,
            kept_files=comparer.kept_files if comparer else 0, removed=removed,
            requests=fetcher.requests if fetcher else 0, usable_seconds=round(self._usable_at, 3),
            seconds=round(progress.elapsed(), 3), stages=progress.busy(),
            notes=self._metadata.notes() + self._remover.notes() + self._sources.notes(),
            removed_paths=[show_path(path) for path in self._remover.removed],
            cached_bytes=self._sources.cached, tuned=self._tuned,
        )  # fmt: skip
