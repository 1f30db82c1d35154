"""From a host's result to a manifest: everything the host says is checked against what the store holds, then signed."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from typing import IO

import msgspec

from torpor.codecs.table import by_id
from torpor.control import catalogue, claims, heads, marks
from torpor.control.catalogue import Snapshot
from torpor.control.repository import Repository
from torpor.errors import Malformed, TorporError
from torpor.format import crypto, index, manifest, names
from torpor.format.index import Pack
from torpor.format.manifest import Claim, CodecUse, IndexRef, Manifest, Private
from torpor.jobs import SnapshotResult
from torpor.storage.base import PACKS
from torpor.workspace.indexfile import IndexFile
from torpor.workspace.spool import spool as nameless

_PIECE = 8 * 1024 * 1024
_REPORTED = 64  # stages and versions that a host may report; the manifest is signed, so it holds no more than it needs


def fetch_index(repository: Repository, ref: IndexRef) -> IO[bytes]:
    """The index object in a nameless temporary file, its digest checked."""
    spool = nameless()
    try:
        digest = hashlib.sha256()
        for at in range(0, ref.size, _PIECE):
            data = repository.store.get(PACKS + ref.name, at, min(_PIECE, ref.size - at))
            digest.update(data)
            spool.write(data)
        spool.flush()
        index.check_digest(digest.hexdigest(), ref.sha256, f"Index {ref.name}")
    except BaseException:
        spool.close()
        raise
    return spool


def data_keys(repository: Repository, sealed: Mapping[str, bytes]) -> dict[str, bytes]:
    """Open sealed data keys, by writer."""
    private = repository.box_private
    opened = {
        writer: crypto.box_open(private, key, crypto.data_key_info(repository.id, writer), f"the data key of {writer}")
        for writer, key in sealed.items()
    }
    if any(len(key) != 32 for key in opened.values()):
        raise Malformed("A data key has an impossible length.")
    return opened


def open_index(repository: Repository, spool: IO[bytes], ref: IndexRef, keys: Mapping[str, bytes], snapshot: str) -> IndexFile:
    writer = names.writer_of(ref.name)
    return IndexFile(spool.fileno(), repository.id, writer, snapshot, crypto.index_key(keys[writer], writer))


class Commit:
    """One snapshot's commit. `parents` are the snapshots whose packs the job was allowed to name."""

    def __init__(self, repository: Repository, claim: Claim, attempt: str, parents: list[Snapshot], allowed: Mapping[str, int]) -> None:
        self._repository = repository
        self._claim = claim
        self._attempt = attempt
        self._parents = parents
        self._allowed = allowed

    def run(self, result: SnapshotResult, private: Private, generation: int, parent: str | None) -> Snapshot:
        """Check, write the manifest, look again. Raises `ClaimLost`, `Damaged`, `Malformed`; then there is no manifest."""
        repository, claim = self._repository, self._claim
        ref = result.index
        _check_report(result)
        if result.snapshot != claim.snapshot or ref.name != names.index(claim.snapshot, self._attempt):
            raise Malformed("The host answered with another snapshot than it was asked for.", safe="Nothing was committed.")
        with fetch_index(repository, ref) as spool:
            head = index.parse_head(spool_head(spool, ref), ref.name)
            check_head_digest(spool, ref)
            keyring = self._keyring(head, result.keys)
            self._check_packs(head)
            found = open_index(repository, spool, ref, data_keys(repository, keyring), claim.snapshot)
            stored, use = self._check_tree(found)
            problems = _problem_counts(found)
        made = Manifest(
            snapshot=claim.snapshot, lineage=claim.lineage, parent=parent, generation=generation, created=claim.created,
            index=ref, keyring=self._seal(keyring), new_bytes=self._new_bytes(head, ref), packs=len(head.packs),
            problems=problems, stages=result.stages, seconds=result.seconds, versions=result.versions,
            private=self._private(private), files=found.check.files, directories=found.check.directories, links=found.check.links,
            entries=found.count, raw_bytes=found.check.raw_bytes, stored_bytes=stored, chunks=len(found.chunks), codecs=use,
        )  # fmt: skip
        return self._write(made, private, head.packs)

    def _keyring(self, head: index.Head, own: Mapping[str, bytes]) -> dict[str, bytes]:
        """The sealed data key of every writer whose packs are named. A host can bring keys of its own attempts only."""
        mine = {self._claim.snapshot, *self._claim.continues}
        known: dict[str, bytes] = {}
        for parent in self._parents:
            known |= parent.manifest.keyring
        known |= {writer: key for writer, key in own.items() if names.is_writer(writer) and names.snapshot_of(writer) in mine}
        needed = {names.writer_of(pack.name) for pack in head.packs} | {names.writer(self._claim.snapshot, self._attempt)}
        missing = sorted(needed - known.keys())
        if missing:
            raise Malformed(f"The host named packs of {missing[0]}, which this job may not read.", safe="Nothing was committed.")
        return {writer: known[writer] for writer in sorted(needed)}

    def _check_packs(self, head: index.Head) -> None:
        own = names.writer(self._claim.snapshot, self._attempt)
        for pack in head.packs:
            if names.writer_of(pack.name) != own and self._allowed.get(pack.name) != pack.size:
                raise Malformed(f"The host named pack {pack.name}, which this job may not use.", safe="Nothing was committed.")
        heads.check_present(self._repository, head.packs)

    def _check_tree(self, found: IndexFile) -> tuple[int, dict[str, CodecUse]]:
        """Walk the whole index, so that its counts are ours, not the host's; stored bytes and the codec mix are returned."""
        for _ in found.checked_blocks():
            pass
        chunks = found.chunks
        use: dict[str, CodecUse] = {}
        stored = found.head.total
        for place in range(len(chunks)):
            if chunks.is_hole(place):
                continue
            entry = use.setdefault(by_id(chunks.codec[place]).name, CodecUse())
            entry.chunks += 1
            entry.raw_bytes += chunks.raw[place]
            entry.coded_bytes += chunks.sealed[place]
            stored += chunks.sealed[place]
        return stored, use

    def _new_bytes(self, head: index.Head, ref: IndexRef) -> int:
        own = names.writer(self._claim.snapshot, self._attempt)
        return ref.size + sum(pack.size for pack in head.packs if names.writer_of(pack.name) == own)

    def _seal(self, keyring: Mapping[str, bytes]) -> dict[str, bytes]:
        """Every data key sealed anew: the manifest depends on no other manifest's ciphertext."""
        repository = self._repository
        return {
            writer: crypto.box_seal(repository.box_public, key, crypto.data_key_info(repository.id, writer))
            for writer, key in data_keys(repository, keyring).items()
        }

    def _private(self, private: Private) -> bytes:
        info = crypto.private_info(self._repository.id, self._claim.snapshot)
        return crypto.box_seal(self._repository.box_public, msgspec.json.encode(private), info)

    def _write(self, made: Manifest, private: Private, packs: list[Pack]) -> Snapshot:
        repository, claim = self._repository, self._claim
        wanted = [pack.name for pack in packs]
        # In this order: what a sweep deletes stands in a mark until it is gone, so either look notices.
        marks.check_unmarked(repository, wanted)
        heads.check_present(repository, packs)
        claims.check(repository, claim)
        name = names.manifest(claim.snapshot)
        data = repository.sign("manifest", made)
        # A manifest that nobody can read would stop every prune, so what is written is read once more first.
        manifest.check_manifest(manifest.decode(repository.verify("manifest", data, name), Manifest, name), claim.snapshot)
        repository.store.sync()
        repository.store.put(name, data, if_absent=True)
        try:
            claims.check(repository, claim)
            marks.check_unmarked(repository, wanted)
        except TorporError:
            repository.store.delete([name])
            raise
        snapshot = Snapshot(made, hashlib.sha256(data).hexdigest(), private)
        catalogue.pin(repository, snapshot)
        claims.release(repository, claim.snapshot)
        return snapshot


def _check_report(result: SnapshotResult) -> None:
    """What the manifest takes over from the host's own words stays small and readable."""
    words = [*result.stages, *result.versions, *result.versions.values(), result.rental]
    if len(words) > 3 * _REPORTED or any(len(word) > 200 for word in words) or not 0 < result.index.head_size <= result.index.size:
        raise Malformed("The host's report is not one that torpor makes.", safe="Nothing was committed.")
    if not all(map(math.isfinite, (result.seconds, *result.stages.values()))):
        raise Malformed("The host's report holds times that are no numbers.", safe="Nothing was committed.")


def spool_head(spool: IO[bytes], ref: IndexRef) -> bytes:
    return os.pread(spool.fileno(), ref.head_size, 0)


def check_head_digest(spool: IO[bytes], ref: IndexRef) -> None:
    data = spool_head(spool, ref)
    index.check_digest(hashlib.sha256(data).hexdigest(), ref.head_sha256, f"The head of index {ref.name}")
    if index.head_size(data, ref.name) != ref.head_size:
        raise Malformed("The host's index has another head than it says.", safe="Nothing was committed.")


def _problem_counts(found: IndexFile) -> dict[str, int]:
    counts: dict[str, int] = {}
    for problem in found.problems():
        counts[problem.kind] = counts.get(problem.kind, 0) + 1
    return counts


def manifest_json(snapshot: Snapshot) -> dict[str, object]:
    """A manifest for `--json`: as signed, with the private fields opened."""
    data: dict[str, object] = json.loads(manifest.encode(snapshot.manifest))
    data.pop("keyring")
    data["private"] = json.loads(msgspec.json.encode(snapshot.private)) if snapshot.private else None
    data["ratio"] = round(snapshot.manifest.ratio, 4)
    return data
