"""What the engine and the child process that owns the GPU say to each other.

Bytes lie in shared memory: slot `n` begins at `n * SLOT`, `CHUNK_MAX` bytes for a raw chunk, then as many for a coded one. Messages are
of one size and name slots; a batch is answered by the same rows with a state and, after encoding, the coded length. The child's first
message is a batch of kind `READY` without rows.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from torpor.format.version import CHUNK_MAX

SLOT = 2 * CHUNK_MAX
DEPTH = 3  # batches with the child at once: one is copied in, one is worked on, one is copied out
BATCH_MAX = 64  # chunks

READY, ENCODE, DECODE, COPY_IN, COPY_OUT = range(5)
DONE, REFUSED, UNABLE = range(3)  # of a chunk; REFUSED: it would not shrink; UNABLE: the CPU's to do, or to say what is wrong

_HEAD = struct.Struct("<IIIIQ")
_ROW = struct.Struct("<HBBBBxxII")
SIZE = _HEAD.size + BATCH_MAX * _ROW.size


class Row(NamedTuple):
    """One chunk. `wanted`: bit `k` for plane `k` to be coded. `coded`: bytes; of what is to be encoded 0."""

    slot: int
    raw: int
    coded: int = 0
    width: int = 0
    lead: int = 0
    wanted: int = 0
    state: int = UNABLE


class Batch(NamedTuple):
    """`spent`: nanoseconds of processor time that the child has used so far. `limit`: of a READY: chunks a batch may have."""

    kind: int
    number: int
    rows: list[Row]
    spent: int = 0
    limit: int = 0


def pack(batch: Batch) -> bytes:
    """A message of `SIZE` bytes."""
    head = _HEAD.pack(batch.kind, batch.number, len(batch.rows), batch.limit, batch.spent)
    rows = [_ROW.pack(r.slot, r.width, r.lead, r.wanted, r.state, r.raw, r.coded) for r in batch.rows]
    return b"".join([head, *rows]).ljust(SIZE, b"\0")


def unpack(message: bytes, slots: int) -> Batch:
    """Raises `ValueError` for what nobody can have meant."""
    if len(message) != SIZE:
        raise ValueError("a message of another size")
    kind, number, count, limit, spent = _HEAD.unpack_from(message)
    if count > BATCH_MAX or kind > COPY_OUT:
        raise ValueError("an impossible message")
    rows = []
    for at in range(_HEAD.size, _HEAD.size + count * _ROW.size, _ROW.size):
        slot, width, lead, wanted, state, raw, coded = _ROW.unpack_from(message, at)
        if slot >= slots or raw > CHUNK_MAX or coded > CHUNK_MAX or state > UNABLE:
            raise ValueError("an impossible chunk")
        rows.append(Row(slot, raw, coded, width, lead, wanted, state))
    return Batch(kind, number, rows, spent, limit)
