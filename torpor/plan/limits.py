"""How many threads and buffers a job may use, from cores and memory."""

from __future__ import annotations

import msgspec

from torpor.errors import UsageError
from torpor.format.version import CHUNK_MAX, PACK_TARGET

MIB = 1024 * 1024
_BASE = 130 * MIB  # interpreter, libraries, queues, one index block
_WORKER = 5 * CHUNK_MAX  # raw, coded and scratch buffers of one worker
ARENA = PACK_TARGET + CHUNK_MAX + 1 * MIB  # a pack being filled: chunks, then header and table
MINIMUM = 384 * MIB


class Limits(msgspec.Struct, frozen=True):
    """Threads that compress or decompress, packs held in memory, threads that talk to the store."""

    workers: int
    arenas: int
    transfers: int


def plan(memory: int, cores: int, workers: int = 0) -> Limits:
    """Fit `workers` (0: one a core) into `memory` bytes. Raises `UsageError` below 384 MiB."""
    if memory < MINIMUM:
        raise UsageError(f"--memory {memory // MIB}M is too little.", remedy=f"Give at least {MINIMUM // MIB}M.")
    room = memory - _BASE
    arenas = 5
    wanted = workers or max(2, cores)
    fit = max(1, min(wanted, (room - arenas * ARENA) // _WORKER))
    spare = room - arenas * ARENA - fit * _WORKER
    arenas += min(max(0, spare // ARENA), fit)
    return Limits(workers=fit, arenas=arenas, transfers=max(1, min(arenas - 3, 4)))


_SLOT = 4 * CHUNK_MAX  # shared with the GPU's process: a raw and a coded chunk; and what the slot's thread may need of its own
_SLOTS_MAX = 64
_SLOTS_MIN = 4


def slots(memory: int, available: int) -> int:
    """Chunks that may be on their way to a GPU and back at once; 0: there is too little memory for it.

    They come on top of `plan`, are made when a GPU is used and take at most `memory` bytes more, nor more than a quarter of what the
    machine has `available`.
    """
    fit = min(_SLOTS_MAX, min(memory, available // 4) // _SLOT)
    return fit if fit >= _SLOTS_MIN else 0
