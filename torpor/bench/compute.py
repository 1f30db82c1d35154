"""What cores and memory allow: copy, keyed BLAKE3, seal and open, each codec with and without the compiled kernels."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torpor.bench import data
from torpor.bench.rows import CHOSEN, Row
from torpor.bench.timing import speed
from torpor.codecs.base import NO_HINT, Codec, Hint, Scratch
from torpor.codecs.choose import Chooser
from torpor.codecs.table import ROWS, by_id
from torpor.format.crypto import TAG, Sealer
from torpor.format.version import CHUNK_MAX, CODEC_PLANES, CODEC_RAW
from torpor.native import kernels

MIB = 1024 * 1024
COPIED = 128 * MIB  # by all threads together; far more than caches hold
WIDTHS = {"bf16": 2, "fp16": 2, "fp32": 4}  # bytes of an element

Call = Callable[[], object]


def copy_speed(threads: int, seconds: float) -> float:
    """GB/s that `threads` threads copy from memory to memory."""
    import numpy as np

    size = max(CHUNK_MAX, COPIED // threads // 2)

    def make() -> Call:
        source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)
        return lambda: np.copyto(target, source)

    return speed(make, size, threads, seconds, rounds=3)


def memory(threads: int, seconds: float, copy: float) -> Iterator[Row]:
    """Rows of what every byte goes through, whichever codec it gets. `copy`: GB/s of a memory copy."""
    from blake3 import blake3

    chunk = data.noise(CHUNK_MAX)
    limit = f"memory copy, {threads} threads"
    yield Row(group="memory", name="memory copy", value=copy, unit="GB/s", note=f"{threads} threads; the limit of what follows")

    def hasher() -> Call:
        mine, key = bytearray(chunk), os.urandom(32)
        return lambda: blake3(mine, key=key).digest()

    yield Row(
        group="memory", name="keyed BLAKE3", value=speed(hasher, CHUNK_MAX, threads, seconds), unit="GB/s", limit=copy, limit_name=limit
    )

    def sealer() -> Call:
        seal, numbers, out = Sealer(os.urandom(32)), itertools.count(), bytearray(CHUNK_MAX + TAG)
        return lambda: seal.seal_into(next(numbers), chunk, b"", out)

    yield Row(
        group="memory", name="seal (AES-256-GCM)", value=speed(sealer, CHUNK_MAX, threads, seconds), unit="GB/s", limit=copy,
        limit_name=limit,
    )  # fmt: skip

    def opener() -> Call:
        seal, out = Sealer(os.urandom(32)), bytearray(CHUNK_MAX)
        sealed = seal.seal(0, chunk, b"")
        return lambda: seal.open_into(0, sealed, b"", out, "a chunk")

    yield Row(
        group="memory", name="open (AES-256-GCM)", value=speed(opener, CHUNK_MAX, threads, seconds), unit="GB/s", limit=copy,
        limit_name=limit,
    )  # fmt: skip


def codecs(threads: int, seconds: float, copy: float, say: Callable[[str], None]) -> Iterator[Row]:
    """Rows of every codec on every kind of data; planes twice where compiled kernels are there."""
    for kind, raw in data.kinds().items():
        say(f"codecs on {kind}")
        chosen, _ = Chooser().choose(raw)
        for row in ROWS:
            if row.id == CODEC_RAW:
                continue  # a copy
            codec = by_id(row.id)
            hint = Hint(WIDTHS[kind]) if row.id == CODEC_PLANES and kind in WIDTHS else NO_HINT
            yield from _codec(f"{kind}, {row.name}", codec, raw, hint, threads, seconds, copy, chosen=codec is chosen)
            if row.id == CODEC_PLANES and kind in WIDTHS and kernels.library() is not None:
                with _without_kernels():
                    yield from _codec(f"{kind}, {row.name} without kernels", codec, raw, hint, threads, seconds, copy, chosen=False)


def _codec(name: str, codec: Codec, raw: bytes, hint: Hint, threads: int, seconds: float, copy: float, *, chosen: bool) -> Iterator[Row]:
    limit = f"memory copy, {threads} threads"
    value = speed(lambda: encoder(codec, raw, hint), len(raw), threads, seconds)
    found = codec.encode(raw, Scratch(), hint)
    if found is None:
        yield Row(group="codecs", name=f"{name}: encode", value=value, unit="GB/s", note="refuses: it would not shrink")
        return
    coded = bytes(found)
    note = f"ratio {len(raw) / len(coded):.2f}" + (f"; {CHOSEN}" if chosen else "")
    yield Row(group="codecs", name=f"{name}: encode", value=value, unit="GB/s", limit=copy, limit_name=limit, note=note)
    value = speed(lambda: decoder(codec, coded, len(raw)), len(raw), threads, seconds)
    yield Row(group="codecs", name=f"{name}: decode", value=value, unit="GB/s", limit=copy, limit_name=limit, note=note)


def encoder(codec: Codec, raw: bytes, hint: Hint) -> Call:
    """One thread's call that encodes `raw`."""
    scratch = Scratch()
    return lambda: codec.encode(raw, scratch, hint)


def decoder(codec: Codec, coded: bytes, length: int) -> Call:
    """One thread's call that decodes to `length` bytes."""
    scratch, out = Scratch(), memoryview(bytearray(length))
    return lambda: codec.decode(coded, length, out, scratch)


@contextmanager
def _without_kernels() -> Iterator[None]:
    """As on a machine where they were not built."""
    names = vars(kernels)
    library = names["library"]
    names["library"] = lambda: None
    try:
        yield
    finally:
        names["library"] = library
