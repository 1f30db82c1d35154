"""Fills packs: chunks are sealed straight into a pack's arena; a full pack goes to the uploaders in one piece."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from itertools import repeat
from mmap import mmap

from torpor.format import names
from torpor.format.chunks import ChunkList
from torpor.format.crypto import TAG, Sealer, pack_key
from torpor.format.index import Pack
from torpor.format.pack import HEADER, ROW, Row, chunk_aad, chunk_aad_prefix, encode_ends
from torpor.format.version import PACK_TARGET
from torpor.plan.limits import ARENA
from torpor.workspace.crew import Pool, Stop
from torpor.workspace.journal import SLICE

# The table must fit behind the chunks in the arena: (ARENA - PACK_TARGET - CHUNK_MAX) / 48 rows are more than enough.
_ROWS_MAX = 8_192

Slices = tuple[Sequence[int], Sequence[int], Sequence[bytes]]  # of each small file in a bundle: offset, length, id


class PackList:
    """The packs that the new index names, by number; filled in as they reach the store."""

    def __init__(self) -> None:
        self.packs: list[Pack | None] = []
        self._known: dict[str, int] = {}

    def open(self) -> int:
        self.packs.append(None)
        return len(self.packs) - 1

    def done(self, number: int, pack: Pack) -> None:
        self.packs[number] = pack

    def reuse(self, pack: Pack) -> int:
        """The number of a pack that is in the store already."""
        if pack.name not in self._known:
            self._known[pack.name] = len(self.packs)
            self.packs.append(pack)
        return self._known[pack.name]

    def complete(self) -> list[Pack]:
        missing = [number for number, pack in enumerate(self.packs) if pack is None]
        if missing:
            raise RuntimeError(f"packs {missing} never reached the store")
        return [pack for pack in self.packs if pack is not None]


class OpenPack:
    """A pack being filled. Space is reserved under the packer's lock; sealing happens outside it."""

    def __init__(self, kind: int, name: str, number: int, arena: mmap, repository: str, data_key: bytes) -> None:
        self.kind = kind
        self.name = name
        self.number = number
        self.arena = arena
        self.view = memoryview(arena)
        self.salt = secrets.token_bytes(32)
        self.key = pack_key(data_key, name, self.salt)
        self.sealer = Sealer(self.key)
        self.aad = chunk_aad_prefix(repository, name)
        self.used = HEADER.size
        self.rows: list[Row | None] = []
        self.slices = bytearray()
        self.pending = 0
        self.closed = False
        self.size = 0

    def finish(self, repository: str) -> memoryview:
        """Write header and table; the whole object is returned."""
        rows = [row for row in self.rows if row is not None]
        header, table = encode_ends(repository, self.name, self.key, self.kind, self.salt, rows)
        self.view[: HEADER.size] = header
        self.size = self.used + len(table)
        self.view[self.used : self.size] = table
        return self.view[: self.size]

    def rows_bytes(self) -> bytes:
        return b"".join(ROW.pack(r.offset, r.sealed, r.raw, r.codec, r.id) for r in self.rows if r is not None)


class Packer:
    """Takes coded chunks from many threads. `full` is called, on the thread that completed it, with each finished pack."""

    def __init__(
        self,
        repository: str,
        snapshot: str,
        attempt: str,
        data_key: bytes,
        chunks: ChunkList,
        packs: PackList,
        arenas: int,
        stop: Stop,
        full: Callable[[OpenPack], None],
    ) -> None:
        self._repository = repository
        self._snapshot = snapshot
        self._attempt = attempt
        self._data_key = data_key
        self._chunks = chunks
        self._packs = packs
        self._full = full
        self._open: dict[int, OpenPack] = {}
        self._count = 0
        self._holes: dict[int, int] = {}
        self.lock = threading.Lock()
        self.arenas = Pool(arenas, ARENA, stop)

    def put(
        self,
        kind: int,
        coded: bytes | bytearray | memoryview,
        raw: int,
        codec: int,
        id: bytes,
        slices: Slices | None = None,
    ) -> int:
        """Seal one chunk into a pack of its class; its place in the chunk list is returned.

        `slices`: of the small files in a bundle, for the journal.
        """
        sealed = len(coded) + TAG
        pack, number, offset = self._reserve(kind, sealed)
        pack.sealer.seal_into(number, coded, chunk_aad(pack.aad, number, codec, raw), pack.view[offset : offset + sealed])
        files = b"".join(map(SLICE.pack, repeat(number), *slices)) if slices else b""
        with self.lock:
            pack.rows[number] = Row(offset, sealed, raw, codec, id)
            place = self._chunks.append(pack.number, number, offset, sealed, raw, codec, id)
            pack.slices += files
            pack.pending -= 1
            ready = pack.closed and pack.pending == 0
        if ready:
            self._full(pack)
        return place

    def hole(self, length: int) -> int:
        """The place of a hole of this length; one row serves all holes of one length."""
        with self.lock:
            if length not in self._holes:
                self._holes[length] = self._chunks.append_hole(length)
            return self._holes[length]

    def is_whole(self, place: int, length: int) -> bool:
        """Whether a chunk holds exactly this many raw bytes."""
        return self._chunks.raw[place] == length

    def _reserve(self, kind: int, sealed: int) -> tuple[OpenPack, int, int]:
        arena: mmap | None = None
        while True:
            finished: OpenPack | None = None
            with self.lock:
                pack = self._open.get(kind)
                if pack is not None and pack.used < PACK_TARGET and len(pack.rows) < _ROWS_MAX:
                    number, offset = len(pack.rows), pack.used
                    pack.rows.append(None)
                    pack.used += sealed
                    pack.pending += 1
                    if arena is not None:
                        self.arenas.give(arena)
                    return pack, number, offset
                if pack is not None:
                    finished = self._close(kind)
                elif arena is not None:
                    name = names.pack(self._snapshot, self._attempt, self._count)
                    self._count += 1
                    self._open[kind] = OpenPack(kind, name, self._packs.open(), arena, self._repository, self._data_key)
                    arena = None
                    continue
            if finished is not None:
                self._full(finished)
            if arena is None:
                arena = self.arenas.take()

    def _close(self, kind: int) -> OpenPack | None:
        """Close the open pack of a class; it is returned if nothing is still being sealed into it."""
        pack = self._open.pop(kind)
        pack.closed = True
        return pack if pack.pending == 0 else None

    def flush(self) -> None:
        """Hand every open pack on. Call it when all chunks were put."""
        for kind in sorted(self._open):
            with self.lock:
                pack = self._close(kind)
            if pack is not None:
                self._full(pack)
