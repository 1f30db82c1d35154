"""A host that fits in a page: it remembers packs, names them again where the control side allows it, and adds one of its own.

Packs and indexes are made by the format's own encoders, through the store that the test steps through.
"""

from __future__ import annotations

import hashlib
import secrets
from array import array
from dataclasses import dataclass, field

from blake3 import blake3

from torpor.events import Listener
from torpor.format import crypto, entries, index, meta, names, zstd
from torpor.format import pack as packs
from torpor.format.chunks import ChunkList
from torpor.format.manifest import IndexRef
from torpor.format.version import NONE
from torpor.jobs import CheckJob, Granter, Job, ProbeJob, ProbeResult, RestoreJob, Result, SnapshotJob, SnapshotResult
from torpor.storage.base import PACKS, Store
from torpor.storage.grants import find

KEEP = 3  # packs of before that a snapshot goes on naming


@dataclass
class Stored:
    """A pack that this host knows of, with its only chunk."""

    pack: index.Pack
    row: packs.Row


@dataclass
class TinyHost:
    """One rental. `record` is its last snapshot with the packs that it named; `journals` its packs of attempts that came to nothing."""

    store: Store
    lineage: str | None = None
    ticket: bytes = b""
    rental: str = field(default_factory=lambda: secrets.token_hex(16))
    snapshot: str | None = None
    record: list[Stored] = field(default_factory=list)
    journals: dict[str, tuple[str, bytes, list[Stored]]] = field(default_factory=dict)  # snapshot → writer, sealed key, packs
    count: int = 0

    def run(self, job: Job, listen: Listener, ask: Granter | None = None) -> Result:
        if isinstance(job, ProbeJob):
            dead = sorted(snapshot for snapshot, (_, _, put) in self.journals.items() if put)
            return ProbeResult(rental=self.rental, lineage=self.lineage, ticket=self.ticket, snapshot=self.snapshot, continues=dead)
        assert isinstance(job, SnapshotJob)
        assert not isinstance(job, RestoreJob | CheckJob)
        return self._snapshot(job)

    def restored(self, other: TinyHost) -> None:
        """As if this rental had been woken from the other's last snapshot, and had checked every byte of it."""
        self.lineage, self.ticket = other.lineage, other.ticket
        self.snapshot, self.record = other.snapshot, list(other.record)

    def _snapshot(self, job: SnapshotJob) -> SnapshotResult:
        data_key = secrets.token_bytes(32)
        writer = names.writer(job.snapshot, job.attempt)
        sealed = crypto.box_seal(job.keys.box, data_key, crypto.data_key_info(job.repository, writer))
        keys = {writer: sealed}
        known = list(self.record)
        for snapshot in [snapshot for snapshot in self.journals if snapshot not in job.continues]:
            del self.journals[snapshot]
        used_up = list(self.journals)
        for dead, key, put in self.journals.values():
            keys[dead] = key
            known += put
        self.lineage, self.ticket = job.lineage, crypto.ticket(job.keys.id_key)
        self.journals[job.snapshot] = (writer, sealed, [])
        strange = {item.pack.name for item in known if names.snapshot_of(item.pack.name) in job.continues} - {
            item.pack.name for item in known if names.writer_of(item.pack.name) in keys
        }
        allowed = {item.pack.name: item for item in known if job.allowed.get(item.pack.name) == item.pack.size}
        allowed = {name: item for name, item in allowed.items() if name not in strange}
        named = list(allowed.values())[-KEEP:]
        self.count += 1
        new = self._pack(job, data_key, f"pack {self.count} of {self.rental}".encode())
        named.append(new)
        ref = self._index(job, data_key, named)
        self.snapshot, self.record = job.snapshot, named
        for snapshot in used_up:
            del self.journals[snapshot]
        needed = {names.writer_of(item.pack.name) for item in named} | {writer}
        return SnapshotResult(
            snapshot=job.snapshot, rental=self.rental, index=ref, keys={name: key for name, key in keys.items() if name in needed},
            files=len(named), directories=1, links=0, entries=len(named) + 1, raw_bytes=1, stored_bytes=1, new_bytes=1, packs=len(named),
            chunks=len(named), codecs={}, problems={}, problem_paths=[], stages={}, seconds=0.0, compared=True, read_files=1, read_bytes=1,
            versions={},
        )  # fmt: skip

    def _pack(self, job: SnapshotJob, data_key: bytes, data: bytes) -> Stored:
        name, salt = names.pack(job.snapshot, job.attempt, 0), secrets.token_bytes(32)
        key = crypto.pack_key(data_key, name, salt)
        row = packs.Row(packs.HEADER.size, len(data) + crypto.TAG, len(data), 0, blake3(data, key=job.keys.id_key).digest())
        aad = packs.chunk_aad(packs.chunk_aad_prefix(job.repository, name), 0, 0, len(data))
        header, table = packs.encode_ends(job.repository, name, key, 3, salt, [row])
        whole = header + crypto.Sealer(key).seal(0, data, aad) + table
        self._put(job, name, whole)
        stored = Stored(index.Pack(name, len(whole), blake3(whole).digest(), salt), row)
        self.journals[job.snapshot][2].append(stored)
        return stored

    def _put(self, job: SnapshotJob, name: str, whole: bytes) -> None:
        find(job.grant, "put", name)  # raises if the job was not granted it
        self.store.put(PACKS + name, whole, if_absent=True)

    def _index(self, job: SnapshotJob, data_key: bytes, named: list[Stored]) -> IndexRef:
        writer = names.writer(job.snapshot, job.attempt)
        chunks, block = ChunkList(), entries.EntryBlock(0)
        block.add(NONE, b"work", entries.DIRECTORY, 0o755, 0, 0, 0, 0)
        for number, item in enumerate(named):
            row = item.row
            chunks.append(number, 0, row.offset, row.sealed, row.raw, row.codec, row.id)
            at = block.add(0, b"%03d" % number, entries.FILE, 0o644, 0, 0, 0, row.raw)
            block.content[at] = entries.Chunked(1, array("I", [number]))
        about = meta.Meta(job.snapshot, [meta.Root(b"work", b"/work")])
        parts = [(index.ENTRIES, len(block), block.encode())]
        parts += [(index.CHUNKS, rows, data) for rows, data in chunks.sections()]
        parts.append((index.META, 1, meta.encode(about)))
        sealer = index.Sections(job.repository, writer, crypto.index_key(data_key, writer))
        sealed = [sealer.seal(n, kind, rows, len(raw), zstd.compress(raw)) for n, (kind, rows, raw) in enumerate(parts)]
        head = index.encode_head([section for section, _ in sealed], [item.pack for item in named])
        whole = head + b"".join(data for _, data in sealed)
        name = names.index(job.snapshot, job.attempt)
        self._put(job, name, whole)
        return IndexRef(name, len(whole), hashlib.sha256(whole).hexdigest(), len(head), hashlib.sha256(head).hexdigest())
