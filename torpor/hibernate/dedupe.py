"""Which bytes are in the store already and may be named again (the reuse rule, docs/format.md §10 and design of trust).

Sources: chunks of this job; chunks that this rental's record trusts; packs of this rental's own dead attempts. A pack counts only if
the control side allowed it by name and size, so nothing that was removed or never arrived is named.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from torpor.format import entries
from torpor.format.chunks import ChunkList
from torpor.format.index import Pack
from torpor.format.version import NONE
from torpor.hibernate.idtable import IdTable
from torpor.hibernate.packer import PackList
from torpor.plan import consolidate
from torpor.workspace.journal import JournalPack
from torpor.workspace.record import Record, RecordPack

_UNKNOWN = NONE
_NEVER = NONE - 1


class Stored(msgspec.Struct, frozen=True):
    """Chunks that lie in the store: a record's, or those of a dead attempt's journal. `trusted`: one byte a chunk.

    `anew`: numbers of packs whose chunks are stored again, though they are there.
    """

    chunks: ChunkList
    packs: list[RecordPack]
    trusted: bytes
    anew: frozenset[int] = frozenset()


def from_record(record: Record) -> Stored:
    packs = record.footer.packs
    thin = consolidate.packs([pack.size for pack in packs], [pack.live for pack in packs])
    return Stored(record.chunks, packs, record.trusted, thin)


def from_journals(journals: list[list[JournalPack]]) -> tuple[Stored, IdTable]:
    """The packs of dead attempts, which this rental wrote itself, and the table of everything in them."""
    chunks, packs, table = ChunkList(), list[RecordPack](), IdTable()
    for journal in journals:
        for pack in journal:
            first = len(chunks)
            for n, row in enumerate(pack.table()):
                place = chunks.append(len(packs), n, row.offset, row.sealed, row.raw, row.codec, row.id)
                table.add(row.id, row.raw, place, 0)
            for n, offset, length, id in pack.files():
                table.add(id, length, first + n, offset)
            packs.append(RecordPack(pack.name, pack.size, pack.blake3, pack.salt, pack.size))
    return Stored(chunks, packs, b"\1" * len(chunks)), table


class Carrier:
    """Translates places of a stored chunk list to places of the new one, as they are used."""

    def __init__(
        self,
        stored: Stored,
        chunks: ChunkList,
        packs: PackList,
        allowed: dict[str, int],
        verified: set[str],
        lock: threading.Lock,
    ) -> None:
        self._old = stored.chunks
        self._trusted = stored.trusted
        self._new = chunks
        self._packs = packs
        self._lock = lock
        self._map = array("I", [_UNKNOWN]) * len(self._old)
        self._old_packs = stored.packs
        self._anew = stored.anew
        self._pack_ok = [allowed.get(pack.name) == pack.size for pack in stored.packs]
        self._pack_verified = [pack.name in verified for pack in stored.packs]

    def carry(self, place: int) -> int | None:
        """The new place of an old chunk; None if it may not be named again."""
        mapped = self._map[place]
        if mapped == _UNKNOWN:
            mapped = self._carry(place)
        return None if mapped == _NEVER else mapped

    def _carry(self, place: int) -> int:
        old = self._old
        with self._lock:
            if self._map[place] != _UNKNOWN:
                return self._map[place]
            mapped = _NEVER
            number = old.pack[place]
            if number == NONE:
                mapped = self._new.append_hole(old.raw[place])
            elif number not in self._anew and self._pack_ok[number] and (self._trusted[place] or self._pack_verified[number]):
                pack = self._old_packs[number]
                target = self._packs.reuse(Pack(pack.name, pack.size, pack.blake3, pack.salt))
                mapped = self._new.append(
                    target,
                    old.number[place],
                    old.offset[place],
                    old.sealed[place],
                    old.raw[place],
                    old.codec[place],
                    old.id(place),
                )
            self._map[place] = mapped
            return mapped

    def carry_all(self, refs: array[int]) -> array[int] | None:
        """All places of a chunked file, or None if one of them can't be carried."""
        out = array("I")
        for place in refs:
            mapped = self.carry(place)
            if mapped is None:
                return None
            out.append(mapped)
        return out


class Dedupe:
    """Finds bytes by id: in this job, in dead attempts, in the record. Thread-safe; `lock` also guards the chunk list."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._own = IdTable()
        self._busy = threading.Condition()
        self._ids: set[bytes] = set()  # being stored at this moment
        self._sources: list[tuple[Callable[[], IdTable], Carrier]] = []
        self._tables: list[IdTable | None] = []

    def use(self, load: Callable[[], IdTable], carrier: Carrier) -> None:
        """Look in this source too. Its table is loaded when something new was read for the first time."""
        self._sources.append((load, carrier))
        self._tables.append(None)

    def find(self, id: bytes, length: int) -> tuple[int, int] | None:
        """(place, offset) of `length` bytes with this id, if they may be named."""
        with self._lock:
            found = self._own.get(id, length)
        if found is not None:
            return found
        for number, (load, carrier) in enumerate(self._sources):
            table = self._tables[number]
            if table is None:
                with self._lock:
                    table = self._tables[number] = self._tables[number] or load()
            found = table.get(id, length)
            if found is not None:
                place = carrier.carry(found[0])
                if place is not None:
                    return place, found[1]
        return None

    def may_have(self, ids: list[bytes]) -> bool:
        """False: `find` finds none of them."""
        if self._sources:
            return True
        with self._lock:
            return self._own.any_of(ids)

    @contextmanager
    def storing(self, id: bytes) -> Iterator[None]:
        """While one thread looks for these bytes and stores them, others that have the same wait: so they are stored once."""
        with self._busy:
            while id in self._ids:
                self._busy.wait()
            self._ids.add(id)
        try:
            yield
        finally:
            with self._busy:
                self._ids.discard(id)
                self._busy.notify_all()

    def add(self, id: bytes, length: int, place: int, offset: int) -> None:
        with self._lock:
            self._own.add(id, length, place, offset)

    def add_all(self, ids: list[bytes], lengths: Sequence[int], place: int, offsets: Sequence[int]) -> None:
        """Files of one bundle."""
        with self._lock:
            self._own.add_all(ids, lengths, place, offsets)


def ids_of(record: Record) -> IdTable:
    """The ids of a record that were checked where it was restored: of whole chunks of large files, and of small files in bundles.

    A bundle's own id is not among them: a restore checks the files in it one by one, so whoever wrote it could have called it anything.
    """
    table = IdTable()
    chunks = record.chunks
    seen = bytearray(len(chunks))
    for block, _ in record.blocks():
        for row, content in enumerate(block.content):
            if isinstance(content, entries.Bundled):
                table.add(content.id, block.size[row], content.chunk, content.offset)
            elif isinstance(content, entries.Chunked):
                for place in content.refs:
                    if not seen[place] and not chunks.is_hole(place):
                        seen[place] = 1
                        table.add(chunks.id(place), chunks.raw[place], place, 0)
    return table
