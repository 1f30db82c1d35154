"""Planes of bytes to be coded, and frames laid out for the decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torpor.codecs.planes import FRAME
from torpor.codecs.zstd import HUFFMAN, options
from torpor.format.zstd import lib  # type: ignore[attr-defined]
from torpor.gpu import coder, records
from torpor.testing.samples import weights

Bytes = NDArray[np.uint8]


def rotated(raw: bytes, width: int) -> Bytes:
    """Planes as rows, by docs/format.md §6 word for word."""
    elements = np.frombuffer(raw, f"<u{width}")
    rotate = (elements << 1 | elements >> (8 * width - 1)).astype(elements.dtype)
    planes: Bytes = np.ascontiguousarray(rotate.view(np.uint8).reshape(-1, width).T)
    return planes


def exponents(dtype: str, size: int = 1 << 21) -> Bytes:
    plane: Bytes = rotated(weights(dtype, size), 4 if dtype == "fp32" else 2)[-1]
    return plane


def made_up(kind: str, size: int, seed: int = 1) -> Bytes:
    dice = np.random.default_rng(seed)
    kinds: dict[str, Callable[[], NDArray[Any]]] = {
        "one symbol": lambda: np.full(size, 200),
        "two symbols": lambda: dice.choice([3, 250], size),
        "two symbols, one rare": lambda: np.where(dice.random(size) < 0.01, 255, 0),
        "one in the middle": lambda: np.where(np.arange(size) == size // 2, 1, 77),
        "few low symbols": lambda: np.minimum(dice.geometric(0.3, size), 128),
        "all symbols, falling": lambda: np.minimum(dice.geometric(0.02, size), 255),
        "all symbols, rising": lambda: 255 - np.minimum(dice.geometric(0.1, size), 255),
        "noise": lambda: dice.integers(0, 256, size),
        "equal weights": lambda: np.where(dice.random(size) < 0.25, 192, dice.integers(0, 192, size)),
        "runs": lambda: np.repeat(dice.integers(0, 256, size // 50 + 1), 50)[:size],
        # Counts like Fibonacci's numbers make the longest codes that there can be.
        "long codes": lambda: 230 - np.searchsorted(np.cumsum(1.618 ** -np.arange(1.0, 24.0)), dice.random(size) * 1.618),
    }
    return kinds[kind]().astype(np.uint8)


KINDS = [
    *("one symbol", "two symbols", "two symbols, one rare", "one in the middle", "few low symbols", "all symbols, falling"),
    *("all symbols, rising", "noise", "equal weights", "runs", "long codes"),
]
EDGES = [1, 2, 3, 4, 6, 63, 64, 255, 256, 257, 1023, 1024, 16_383, 16_384, 65_791, 65_792, 131_071, 131_072, 131_073, 262_145]


def on_cpu(plane: Bytes, frame: int = FRAME) -> list[bytes]:
    """The plane's frames as the CPU's encoder makes them."""
    return [lib.compress(plane[at : at + frame].tobytes(), options=options(HUFFMAN)) for at in range(0, len(plane), frame)]


def on_device(device: coder.Device, plane: Bytes, frame: int = FRAME) -> list[bytes]:
    """The plane's frames as the kernels make them; what lies between them is zeros."""
    made = coder.encode(device, device.upload(plane), len(plane), frame)
    data = device.download(made.data).tobytes()
    spans = [(int(start), int(start) + int(size)) for start, size in zip(made.offsets, made.sizes, strict=True)]
    assert spans[0][0] == 0
    assert spans[-1][1] == made.total
    assert not any(data[made.total :])
    for (_, end), (start, _) in pairwise(spans):
        assert start == -(-end // 16) * 16
        assert not any(data[end:start])
    return [data[start:end] for start, end in spans]


def decoded(device: coder.Device, frames: Sequence[bytes], raw: Sequence[int], slots: int = coder.SLOTS) -> tuple[bytes, list[int]]:
    """What the kernels decode of frames that stand for `raw` bytes each, and the frames' states."""
    table = np.zeros(len(frames), records.FRAME)
    data, to = b"", 0
    for row, frame, length in zip(table, frames, raw, strict=True):
        data += bytes(-len(data) % 16)
        row["from"], row["to"], row["size"], row["raw"] = len(data), to, len(frame), length
        data, to = data + frame, to + length
    out, status = coder.decode(device, device.upload(np.frombuffer(data, np.uint8)), len(data), table, to, slots)
    return device.download(out).tobytes(), status.tolist()


def lengths(size: int, frame: int = FRAME) -> list[int]:
    return [min(frame, size - at) for at in range(0, size, frame)]
