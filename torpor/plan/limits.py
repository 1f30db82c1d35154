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
DEFAULT = 512 * MIB
REMOTE_MAX = 4096 * MIB
SPAN = 8 * MIB  # bytes one request of a restore asks for at most, unless a single chunk is larger
UNIT_MAX = SPAN + CHUNK_MAX
STREAMS_MAX = 48  # requests to a remote store at once; how many really run, its answers decide


class Limits(msgspec.Struct, frozen=True):
    """Threads that compress or decompress; packs held in memory, and as many bytes of requests in a restore; threads that upload,
    threads that download."""

    workers: int
    arenas: int
    uploads: int
    downloads: int

    @property
    def buffers(self) -> int:
        """Requests of a restore whose bytes are held in memory."""
        return max(3, self.arenas * ARENA // UNIT_MAX)


def budget(asked: int, total: int, *, remote: bool) -> int:
    """How much memory a job may use, of a machine's `total`: what was asked for, else 512 MiB, and with a remote store, where more
    requests at once are more speed, an eighth of the machine up to 4 GiB. Bytes."""
    if asked:
        return asked
    return max(DEFAULT, min(total // 8, REMOTE_MAX)) if remote else DEFAULT


def told(memory: int, fit: Limits) -> str:
    """What people are told of a job that takes more than the 512 MiB that are promised; empty for others."""
    if memory <= DEFAULT:
        return ""
    return f"Up to {memory / 1e9:.1f} GB of memory, for as many as {max(fit.uploads, fit.downloads)} requests at once; --memory bounds it."


def plan(memory: int, cores: int, workers: int = 0, *, remote: bool = False) -> Limits:
    """Fit `workers` (0: one a core) into `memory` bytes. Raises `UsageError` below 384 MiB.

    A local disk is fast by a few threads; a remote store takes as many requests as there is memory for.
    """
    if memory < MINIMUM:
        raise UsageError(f"--memory {memory // MIB}M is too little.", remedy=f"Give at least {MINIMUM // MIB}M.")
    room = memory - _BASE
    arenas = 5
    wanted = workers or max(2, cores)
    fit = max(1, min(wanted, (room - arenas * ARENA) // _WORKER))
    spare = room - arenas * ARENA - fit * _WORKER
    arenas += min(max(0, spare // ARENA), STREAMS_MAX if remote else fit)
    most = STREAMS_MAX if remote else 4
    made = Limits(workers=fit, arenas=arenas, uploads=max(1, min(arenas - 3, most)), downloads=1)
    return msgspec.structs.replace(made, downloads=min(made.buffers, most) if remote else made.uploads)


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
