"""Fetches an index into a nameless file of the host and checks that it is the one the manifest names."""

from __future__ import annotations

import hashlib
import os
from typing import IO

from torpor.codecs.table import by_id
from torpor.format.index import check_digest
from torpor.jobs import RestoreJob
from torpor.storage.transfer import Transfer
from torpor.workspace.indexfile import IndexFile
from torpor.workspace.spool import spool as nameless

_PIECE = 8 * 1024 * 1024


def fetch_index(job: RestoreJob, transfer: Transfer) -> tuple[IO[bytes], IndexFile]:
    """The open spool file, and the index in it. Raises `Damaged` before a single byte of it is believed."""
    os.makedirs(job.state, mode=0o700, exist_ok=True)
    spool = nameless(job.state)
    try:
        digest = hashlib.sha256()
        piece = memoryview(bytearray(min(_PIECE, job.index.size)))
        at = 0
        while at < job.index.size:
            part = piece[: min(len(piece), job.index.size - at)]
            transfer.get_into(job.index.name, at, part)
            digest.update(part)
            spool.write(part)
            at += len(part)
        spool.flush()
        check_digest(digest.hexdigest(), job.index.sha256, f"Index {job.index.name}")
        found = IndexFile(spool.fileno(), job.repository, job.writer, job.snapshot, job.keys.index_key)
        for codec in set(found.chunks.codec.tobytes()):
            by_id(codec)  # unknown, or not installed here: said before anything is written
    except BaseException:
        spool.close()
        raise
    return spool, found
