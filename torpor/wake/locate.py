"""Fetches an index into a nameless file of the host and checks that it is the one the manifest names."""

from __future__ import annotations

import hashlib
import os
from typing import IO

from torpor.codecs.table import by_id
from torpor.format.index import check_digest
from torpor.jobs import RestoreJob
from torpor.storage.sources import CACHE, SPOILED, Sources
from torpor.workspace.indexfile import IndexFile
from torpor.workspace.spool import spool as nameless

_PIECE = 8 * 1024 * 1024


def fetch_index(job: RestoreJob, sources: Sources) -> tuple[IO[bytes], IndexFile]:
    """The open spool file, and the index in it. Raises `Damaged` before a single byte of it is believed."""
    os.makedirs(job.state, mode=0o700, exist_ok=True)
    spool = nameless(job.state)
    try:
        _fill(spool, job, sources)
        found = IndexFile(spool.fileno(), job.repository, job.writer, job.snapshot, job.keys.index_key)
        for codec in set(found.chunks.codec.tobytes()):
            by_id(codec)  # unknown, or not installed here: said before anything is written
    except BaseException:
        spool.close()
        raise
    return spool, found


def _fill(spool: IO[bytes], job: RestoreJob, sources: Sources) -> None:
    """Write the index to `spool`: what one place has of it is wrong, the next one is asked."""
    tried: frozenset[int] = frozenset()
    piece = memoryview(bytearray(min(_PIECE, job.index.size)))
    while True:
        digest = hashlib.sha256()
        spool.seek(0)
        used: set[int] = set()
        at = 0
        while at < job.index.size:
            part = piece[: min(len(piece), job.index.size - at)]
            used.add(sources.get_into(job.index.name, at, part, tried))
            digest.update(part)
            spool.write(part)
            at += len(part)
        spool.flush()
        try:
            check_digest(digest.hexdigest(), job.index.sha256, f"Index {job.index.name}")
        except SPOILED as error:
            for place in used:
                sources.spoiled(job.index.name, place, error)
            tried |= {CACHE} if CACHE in used else used  # what it forgot, the others may have
            if not sources.left(tried):
                raise
        else:
            return
