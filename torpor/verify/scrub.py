"""Reads packs back and checks every byte: digest, header, table, seals, decoding, ids of chunks and of the files in bundles."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial

import msgspec
from blake3 import blake3

from torpor.codecs.base import Scratch
from torpor.codecs.table import by_id
from torpor.errors import Damaged, Malformed, NotFound
from torpor.events import Progress
from torpor.format import entries
from torpor.format.crypto import TAG, Sealer
from torpor.format.index import Pack
from torpor.format.pack import Row, chunk_aad, chunk_aad_prefix, open_table, parse_header
from torpor.format.version import CHUNK_MAX, PACK_MAX
from torpor.native.hashing import hash_pieces
from torpor.storage.rate import Rate
from torpor.storage.retry import system_timing
from torpor.storage.transfer import Transfer
from torpor.workspace.crew import Crew, Stop, Stopped
from torpor.workspace.indexfile import IndexFile

_PIECE = 4 * 1024 * 1024  # bytes that are asked for at a time where there is a limit


class Findings(msgspec.Struct):
    """What a scrub saw. `damage`: object name → what is wrong with it."""

    packs: int = 0
    bytes: int = 0
    chunks: int = 0
    files: int = 0
    damage: dict[str, str] = msgspec.field(default_factory=dict)


class _Worker:
    def __init__(self) -> None:
        self.pack = bytearray()
        self.coded = bytearray(CHUNK_MAX)
        self.raw = bytearray(CHUNK_MAX)
        self.scratch = Scratch()

    def room(self, size: int) -> memoryview:
        if len(self.pack) < size:
            self.pack = bytearray(size)
        return memoryview(self.pack)[:size]


class Scrub:
    """Checks packs of one snapshot against its index. `keys`: pack keys by name; `rate`: bytes a second, 0 for no limit.

    `good` is told each pack that is as it should be, on any thread.
    """

    def __init__(
        self, repository: str, index: IndexFile, id_key: bytes, keys: Mapping[str, bytes], transfer: Transfer, progress: Progress,
        rate: int = 0, good: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        self._repository = repository
        self._index = index
        self._id_key = id_key
        self._keys = keys
        self._transfer = transfer
        self._progress = progress
        self._limited = rate > 0
        self._over = threading.Event()
        self._rate = Rate(rate, system_timing(self._over.wait))
        self._good = good
        self._lock = threading.Lock()
        self.findings = Findings()
        self._places: dict[int, list[int]] = {}
        self._files: dict[int, list[tuple[int, int, bytes]]] = {}

    def run(self, numbers: list[int], workers: int) -> Findings:
        """Read these packs whole. Damage is collected, not raised, so that one bad pack does not hide another."""
        wanted = set(numbers)
        chunks = self._index.chunks
        for place in range(len(chunks)):
            if not chunks.is_hole(place) and chunks.pack[place] in wanted:
                self._places.setdefault(chunks.pack[place], []).append(place)
        self._collect_files(wanted)
        stage = self._progress.stage("verify")
        stage.expect(sum(self._index.head.packs[number].size for number in numbers))
        stop = Stop()
        crew = Crew("scrub", workers, 2 * workers, stop, _Worker)
        try:
            for number in numbers:
                crew.put(partial(self._pack, number))
            crew.finish()
        except BaseException as error:
            stop.fail(error)
            self._over.set()
            crew.call_off()
            if isinstance(error, Stopped):
                stop.raise_cause()
            raise
        self._progress.end("verify")
        return self.findings

    def _collect_files(self, wanted: set[int]) -> None:
        """Small files by the chunk they lie in, for the packs that are read."""
        chunks = self._index.chunks
        for block in self._index.raw_blocks():
            for row, content in enumerate(block.content):
                if isinstance(content, entries.Bundled) and chunks.pack[content.chunk] in wanted:
                    self._files.setdefault(content.chunk, []).append((content.offset, block.size[row], content.id))

    def _pack(self, number: int, worker: _Worker) -> None:
        pack = self._index.head.packs[number]
        try:
            if pack.size > PACK_MAX:
                raise Malformed("it is too large")
            data = worker.room(pack.size)
            self._read(pack.name, data)
            self._check(worker, number, pack, data)
            if self._good is not None:
                self._good(pack.name)
        except (Damaged, Malformed, NotFound) as error:
            with self._lock:
                self.findings.damage[f"packs/{pack.name}"] = error.what
        except BaseException:
            self._over.set()  # nobody waits for the rate any more
            raise
        with self._lock:
            self.findings.packs += 1
            self.findings.bytes += pack.size
        self._progress.stage("verify").add(pack.size)

    def _read(self, name: str, data: memoryview) -> None:
        if not self._limited:
            self._transfer.get_into(name, 0, data)
            return
        for at in range(0, len(data), _PIECE):
            part = data[at : at + _PIECE]
            self._rate.take(len(part))
            if self._over.is_set():
                raise Stopped
            self._transfer.get_into(name, at, part)

    def _check(self, worker: _Worker, number: int, pack: Pack, data: memoryview) -> None:
        if blake3(data).digest() != pack.blake3:
            raise Damaged("its BLAKE3 is not the one the index names")
        header = parse_header(data, pack.name)
        if header.salt != pack.salt:
            raise Damaged("its salt is not the one the index names")
        key = self._keys.get(pack.name)
        if key is None:
            raise Damaged("there is no key for it")
        rows = open_table(data, header, self._repository, pack.name, key)
        sealer, prefix = Sealer(key), chunk_aad_prefix(self._repository, pack.name)
        places = {self._index.chunks.number[place]: place for place in self._places.get(number, ())}
        if len(places) != len(self._places.get(number, ())) or any(n >= len(rows) for n in places):
            raise Damaged("the index names chunks that it does not hold")
        for n, row in enumerate(rows):
            raw = self._open(worker, data, n, row, sealer, prefix, pack.name)
            if blake3(raw, key=self._id_key).digest() != row.id:
                raise Damaged(f"chunk {n} decodes to other bytes than its id says")
            if n in places:
                self._agree(row, places[n], n)
                self._small_files(raw, places[n], n)
        with self._lock:
            self.findings.chunks += len(rows)

    def _open(self, worker: _Worker, data: memoryview, n: int, row: Row, sealer: Sealer, prefix: bytes, pack: str) -> memoryview:
        coded = memoryview(worker.coded)[: row.sealed - TAG]
        aad = chunk_aad(prefix, n, row.codec, row.raw)
        sealer.open_into(n, data[row.offset : row.offset + row.sealed], aad, coded, f"chunk {n} of pack {pack}")
        out = memoryview(worker.raw)[: row.raw]
        by_id(row.codec).decode(coded, row.raw, out, worker.scratch)
        return out

    def _agree(self, row: Row, place: int, n: int) -> None:
        chunks = self._index.chunks
        same = (
            chunks.offset[place] == row.offset
            and chunks.sealed[place] == row.sealed
            and chunks.raw[place] == row.raw
            and chunks.codec[place] == row.codec
            and chunks.id(place) == row.id
        )
        if not same:
            raise Damaged(f"the index and the pack disagree about chunk {n}")

    def _small_files(self, raw: memoryview, place: int, n: int) -> None:
        files = self._files.get(place)
        if not files:
            return
        offsets, sizes, ids = zip(*files, strict=True)
        if hash_pieces(raw, offsets, sizes, self._id_key) != list(ids):
            raise Damaged(f"a file in chunk {n} has other bytes than its id says")
        with self._lock:
            self.findings.files += len(files)
