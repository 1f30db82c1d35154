"""Fetches units, opens and decodes their chunks, checks ids, and hands the bytes to the files they belong to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from blake3 import blake3

from torpor.codecs.table import by_id
from torpor.errors import Damaged
from torpor.events import Progress
from torpor.format.contents import IS_BUNDLED, Contents
from torpor.format.crypto import TAG, Sealer
from torpor.format.entries import EntryBlock, decoded
from torpor.format.pack import chunk_aad, chunk_aad_prefix
from torpor.format.version import CLASS_LARGE, CODEC_PLANES
from torpor.jobs import RestoreJob
from torpor.plan.fetch import Unit
from torpor.plan.limits import UNIT_MAX
from torpor.storage.transfer import Transfer
from torpor.wake.batch import Batch
from torpor.wake.compare import Wants
from torpor.wake.files import Files, Kept, LargeFile
from torpor.wake.folders import Folders
from torpor.wake.metadata import Metadata
from torpor.wake.survey import Survey
from torpor.wake.worker import Worker
from torpor.workspace.crew import Crew, Pool, Stop


class Fetcher:
    """The streaming part of a restore. `usable` is called on the thread that wrote the last small file."""

    def __init__(
        self, job: RestoreJob, survey: Survey, wants: Wants, wanted: list[int], transfer: Transfer, files: Files,
        metadata: Metadata, kept: Kept, progress: Progress, stop: Stop, buffers: int, crew: Crew[Worker], usable: Callable[[], None],
    ) -> None:  # fmt: skip
        self._job = job
        self._survey = survey
        self._wants = wants
        self._wanted = wanted
        self._transfer = transfer
        self._files = files
        self._metadata = metadata
        self._kept = kept
        self._progress = progress
        self._crew = crew
        self._usable = usable
        self._buffers = Pool(buffers, UNIT_MAX, stop)
        self._sealers: dict[int, tuple[Sealer, bytes]] = {}
        self._lock = threading.Lock()
        self._large: dict[int, LargeFile] = {}
        self._offsets: dict[int, list[int]] = {}
        self.checked: dict[int, int] = {}
        self.fetched = 0
        self.requests = 0
        self._asked = False
        self.small_left = 1  # the caller's own share, given back by `no_more_small`

    def expect_small(self, units: list[Unit]) -> None:
        self.small_left += sum(unit.priority < CLASS_LARGE for unit in units)

    def small_done(self) -> None:
        with self._lock:
            self.small_left -= 1
            last = self.small_left == 0
        if last:
            self._usable()

    def download(self, unit: Unit) -> None:
        """Fetch one unit and queue it for decoding. Runs on a download thread."""
        began = time.perf_counter()
        buffer = self._buffers.take()
        pack = self._survey.index.head.packs[unit.pack]
        view = memoryview(buffer)[: unit.length]
        with self._lock:
            first, self._asked = not self._asked, True
        if first:
            self._progress.moment("first_byte")
        self._transfer.get_into(pack.name, unit.start, view)
        with self._lock:
            self.fetched += unit.length
            self.requests += 1
        self._progress.stage("download").add(unit.length, time.perf_counter() - began)

        def work(worker: Worker) -> None:
            self._decode(worker, unit, view)
            self._buffers.give(buffer)

        self._crew.put(work)

    def _sealer(self, number: int) -> tuple[Sealer, bytes]:
        found = self._sealers.get(number)
        if found is None:
            name = self._survey.index.head.packs[number].name
            key = self._job.keys.packs.get(name)
            if key is None:
                raise Damaged(
                    f"There is no key for pack {name}.",
                    safe="Nothing of it was used.",
                    remedy="Run `torpor verify` on this snapshot.",
                )
            found = self._sealers[number] = (Sealer(key), chunk_aad_prefix(self._job.repository, name))
        return found

    def _decode(self, worker: Worker, unit: Unit, data: memoryview) -> None:
        chunks = self._survey.index.chunks
        sealer, prefix = self._sealer(unit.pack)
        pack = self._survey.index.head.packs[unit.pack].name
        for piece in unit.pieces:
            place = piece.place
            began = time.perf_counter()
            sealed = data[chunks.offset[place] - unit.start :][: chunks.sealed[place]]
            raw, codec = chunks.raw[place], chunks.codec[place]
            coded = memoryview(worker.coded)[: len(sealed) - TAG]
            aad = chunk_aad(prefix, chunks.number[place], codec, raw)
            what = f"chunk {chunks.number[place]} of pack {pack}"
            by_gpu: memoryview | None = None
            if worker.lane is not None and codec == CODEC_PLANES and unit.priority == CLASS_LARGE:
                unseal = partial(_unseal, sealer, chunks.number[place], sealed, aad, what)
                by_gpu = worker.lane.decode(unseal, len(coded), raw, chunks.id(place), worker)
            if by_gpu is not None:
                out = by_gpu
            else:
                sealer.open_into(chunks.number[place], sealed, aad, coded, what)
                if codec == 0 and len(coded) == raw:
                    out = coded
                else:
                    out = memoryview(worker.raw)[:raw]
                    by_id(codec).decode(coded, raw, out, worker.scratch)
            middle = time.perf_counter()
            self._progress.stage("decompress").add(raw, middle - began)
            written = self._write(worker, piece.first, piece.last, place, out, pack, by_gpu is not None)
            self._progress.stage("write").add(written, time.perf_counter() - middle)
        if unit.priority < CLASS_LARGE:
            self.small_done()

    def _write(self, worker: Worker, first: int, last: int, place: int, data: memoryview, pack: str, whole: bool) -> int:
        """`whole`: the chunk's id was compared already."""
        survey, wants = self._survey, self._wants
        written = 0
        batch = Batch(self._files, self._metadata, self._kept, worker.folders)
        at = first
        for block, rows in survey.index.grouped([wants.entry[want] for want in self._wanted[first:last]]):
            steps = self._wanted[at : at + len(rows)]
            at += len(rows)
            content = decoded(block)
            codes, base = content.codes, block.base
            small = [row for row in rows if codes[row] == IS_BUNDLED]
            if small:
                written += self._small(batch, block, content, small, data, place, pack)
            if len(small) == len(rows):
                continue
            for want, row in zip(steps, rows, strict=True):
                if codes[row] == IS_BUNDLED:
                    continue
                if not whole:
                    self._check(data, survey.index.chunks.id(place), place, pack)
                    whole = True
                file = self._large_file(base + row)
                file.open(worker.folders)
                file.write(data, self._offset(base + row, wants.step[want]))
                file.done(worker.folders, 1)
                written += len(data)
        with self._lock:
            self.checked[place] = self.checked.get(place, 0) + last - first
        return written

    def _small(self, batch: Batch, block: EntryBlock, content: Contents, rows: list[int], data: memoryview, place: int, pack: str) -> int:
        """Check small files that lie in `data` and make them; of several, those before one that is damaged."""
        ranks, key = content.ranks, self._job.keys.id_key
        numbers = [ranks[row] for row in rows]
        offsets = [content.b_offset[rank] for rank in numbers]
        sizes = [block.size[row] for row in rows]
        found = [blake3(data[at : at + size], key=key).digest() for at, size in zip(offsets, sizes, strict=True)]
        wanted = content.ids(numbers)
        if found != wanted:
            good = next(at for at, id in enumerate(found) if id != wanted[at])
            batch.make(block, rows[:good], data, offsets[:good], sizes[:good])
            raise self._damaged(place, pack)
        batch.make(block, rows, data, offsets, sizes)
        return sum(sizes)

    def _check(self, data: memoryview, id: bytes, place: int, pack: str) -> None:
        if blake3(data, key=self._job.keys.id_key).digest() != id:
            raise self._damaged(place, pack)

    def _damaged(self, place: int, pack: str) -> Damaged:
        return Damaged(
            f"Chunk {self._survey.index.chunks.number[place]} of pack {pack} holds other bytes than the index says.",
            safe="The file it belongs to was not written; the restore is marked as unfinished.",
            remedy="Run `torpor verify --full` to see which snapshots it hurts, and restore another snapshot or a copy.",
        )

    def _large_file(self, number: int) -> LargeFile:
        with self._lock:
            file = self._large.get(number)
            if file is None:
                block, row = self._survey.index.at(number)
                pieces = self._wants.pieces[number]
                in_place = number in self._wants.in_place
                file = self._large[number] = LargeFile(self._files, self._metadata, self._kept, block, row, pieces, in_place)
            return file

    def close(self) -> None:
        """Let go of files that were not finished."""
        for file in self._large.values():
            file.close()

    def _offset(self, number: int, step: int) -> int:
        """Where a reference's bytes begin in its file."""
        offsets = self._offsets.get(number)
        if offsets is None:
            offsets, at = [], 0
            for place in self._survey.refs(number):
                offsets.append(at)
                at += self._survey.index.chunks.raw[place]
            self._offsets[number] = offsets
        return offsets[step]

    def empty_files(self, folders: Folders) -> None:
        """Files without content: nothing is fetched for them."""
        batch = Batch(self._files, self._metadata, self._kept, folders)
        for block, rows in self._survey.index.grouped(self._wants.empty):
            batch.empty(block, rows)

    def without_pieces(self, folders: Folders) -> None:
        """Large files that are all holes: nothing is fetched for them."""
        for number, pieces in self._wants.pieces.items():
            if pieces == 0:
                file = self._large_file(number)
                file.open(folders)
                file.done(folders, 0)


def _unseal(sealer: Sealer, number: int, sealed: memoryview, aad: bytes, what: str, into: memoryview) -> None:
    sealer.open_into(number, sealed, aad, into, what)
