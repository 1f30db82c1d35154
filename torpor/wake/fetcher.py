"""Fetches units, opens and decodes their chunks, checks ids, and hands the bytes to the files they belong to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from blake3 import blake3

from torpor.codecs.table import by_id
from torpor.errors import Damaged, TorporError
from torpor.events import Progress
from torpor.format.contents import IS_BUNDLED, Contents
from torpor.format.crypto import TAG, Sealer
from torpor.format.entries import EntryBlock, decoded
from torpor.format.pack import chunk_aad, chunk_aad_prefix
from torpor.format.version import CLASS_LARGE, CODEC_PLANES
from torpor.jobs import RestoreJob
from torpor.native.hashing import hash_pieces
from torpor.plan.fetch import Piece, Unit
from torpor.plan.limits import UNIT_MAX
from torpor.storage.sources import CACHE, SPOILED, Sources
from torpor.wake.batch import Batch
from torpor.wake.compare import Wants
from torpor.wake.files import Files, Kept, LargeFile
from torpor.wake.folders import Folders
from torpor.wake.metadata import Metadata
from torpor.wake.survey import Survey
from torpor.wake.worker import Worker
from torpor.workspace.crew import Crew, Pool, Stop


class _Written:
    """How far a piece was written: `at` is the first of its wants that was not. `whole`: the chunk's id was compared."""

    __slots__ = ("at", "bytes", "last", "whole")

    def __init__(self, at: int) -> None:
        self.at = at
        self.bytes = 0
        self.whole = False
        self.last = False  # nobody else can be asked for these bytes


class Fetcher:
    """The streaming part of a restore. `usable` is called on the thread that wrote the last small file."""

    def __init__(
        self, job: RestoreJob, survey: Survey, wants: Wants, wanted: list[int], sources: Sources, files: Files,
        metadata: Metadata, kept: Kept, progress: Progress, stop: Stop, buffers: int, crew: Crew[Worker], usable: Callable[[], None],
    ) -> None:  # fmt: skip
        self._job = job
        self._survey = survey
        self._wants = wants
        self._wanted = wanted
        self._sources = sources
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
        place = self._get(pack.name, unit.start, view)
        self._progress.stage("download").add(unit.length, time.perf_counter() - began)

        def work(worker: Worker) -> None:
            self._decode(worker, unit, view, place)
            self._buffers.give(buffer)

        self._crew.put(work)

    def _get(self, pack: str, start: int, out: memoryview, tried: frozenset[int] = frozenset()) -> int:
        """Fill `out` and count it; the place it came from."""
        place = self._sources.get_into(pack, start, out, tried)
        if place != CACHE:
            with self._lock:
                self.fetched += len(out)
                self.requests += 1
        return place

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

    def _decode(self, worker: Worker, unit: Unit, data: memoryview, place: int) -> None:
        chunks = self._survey.index.chunks
        for piece in unit.pieces:
            sealed = data[chunks.offset[piece.place] - unit.start :][: chunks.sealed[piece.place]]
            self._piece(worker, unit, piece, sealed, place)
        if unit.priority < CLASS_LARGE:
            self.small_done()

    def _piece(self, worker: Worker, unit: Unit, piece: Piece, sealed: memoryview, place: int) -> None:
        """Open, decode, check and write one chunk; if it is not what was written, the same with what other places have of it."""
        pack = self._survey.index.head.packs[unit.pack].name
        tried = frozenset((place,))
        written = _Written(piece.first)
        while True:
            written.last = not self._sources.left(tried)
            try:
                self._open(worker, unit, piece, sealed, written)
            except SPOILED as error:
                self._sources.spoiled(pack, place, error)
                if written.last:
                    raise
                sealed, place = self._elsewhere(pack, piece, tried, error)
                tried |= {place}
            else:
                break
        with self._lock:
            self.checked[piece.place] = self.checked.get(piece.place, 0) + piece.last - piece.first

    def _elsewhere(self, pack: str, piece: Piece, tried: frozenset[int], error: TorporError) -> tuple[memoryview, int]:
        chunks = self._survey.index.chunks
        sealed = memoryview(bytearray(chunks.sealed[piece.place]))
        try:
            return sealed, self._get(pack, chunks.offset[piece.place], sealed, tried)
        except TorporError:
            raise error from None

    def _open(self, worker: Worker, unit: Unit, piece: Piece, sealed: memoryview, written: _Written) -> None:
        chunks, place = self._survey.index.chunks, piece.place
        sealer, prefix = self._sealer(unit.pack)
        pack = self._survey.index.head.packs[unit.pack].name
        began = time.perf_counter()
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
        before, written.whole = written.bytes, by_gpu is not None
        self._write(worker, piece, out, pack, written)
        self._progress.stage("write").add(written.bytes - before, time.perf_counter() - middle)

    def _write(self, worker: Worker, piece: Piece, data: memoryview, pack: str, written: _Written) -> None:
        """Write what the piece's wants take of `data`, from `written.at` on; of one block, nothing before all is checked."""
        survey, wants, place = self._survey, self._wants, piece.place
        batch = Batch(self._files, self._metadata, self._kept, worker.folders)
        for block, rows in survey.index.grouped([wants.entry[want] for want in self._wanted[written.at : piece.last]]):
            steps = self._wanted[written.at : written.at + len(rows)]
            content = decoded(block)
            codes, base = content.codes, block.base
            small = [row for row in rows if codes[row] == IS_BUNDLED]
            if len(small) < len(rows) and not written.whole:
                self._check(data, survey.index.chunks.id(place), place, pack)
                written.whole = True
            if small:
                written.bytes += self._small(batch, block, content, small, data, place, pack, written.last)
            for want, row in zip(steps, rows, strict=True) if len(small) < len(rows) else ():
                if codes[row] == IS_BUNDLED:
                    continue
                file = self._large_file(base + row)
                file.open(worker.folders)
                file.write(data, self._offset(base + row, wants.step[want]))
                file.done(worker.folders, 1)
                written.bytes += len(data)
            written.at += len(rows)

    def _small(
        self, batch: Batch, block: EntryBlock, content: Contents, rows: list[int], data: memoryview, place: int, pack: str, last: bool
    ) -> int:
        """Check small files that lie in `data` and make them; of several, those before one that is damaged, if it is the `last` try."""
        ranks = content.ranks
        numbers = [ranks[row] for row in rows]
        offsets = [content.b_offset[rank] for rank in numbers]
        sizes = [block.size[row] for row in rows]
        found = hash_pieces(data, offsets, sizes, self._job.keys.id_key)
        wanted = content.ids(numbers)
        if found != wanted:
            if last:
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
