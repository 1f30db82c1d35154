"""Bytes of the kinds that workspaces hold, the same for the same seed; for tests and benchmarks of codecs."""

from __future__ import annotations

import random
from functools import lru_cache

import numpy as np

MIB = 1024 * 1024


@lru_cache(32)
def weights(dtype: str, size: int = 4 * MIB, seed: int = 1) -> bytes:
    """`size` bytes of an array of `dtype` (bf16, fp16, fp32): normal around 0 with deviation 0.02, as weights are."""
    count = -(-size // (4 if dtype == "fp32" else 2))
    floats = np.random.default_rng(seed).standard_normal(count, dtype=np.float32) * np.float32(0.02)
    arrays = {"fp32": floats, "fp16": floats.astype("<f2"), "bf16": (floats.view("<u4") >> 16).astype("<u2")}
    data: bytes = arrays[dtype].tobytes()
    return data[:size]


@lru_cache(32)
def noise(size: int = 4 * MIB, seed: int = 1) -> bytes:
    """Random bytes: nothing shrinks them."""
    return np.random.default_rng(seed).bytes(size)


@lru_cache(32)
def text(size: int = 4 * MIB, seed: int = 1) -> bytes:
    """Lines that look like code: words of a vocabulary by Zipf's law, indented."""
    rng = random.Random(seed)
    letters = "etaoinsrhldcumfpgwybvkxjqz_"
    words = ["".join(rng.choices(letters, range(27, 0, -1), k=rng.randint(2, 11))) for _ in range(3000)]
    lines: list[str] = []
    length = 0
    weight = [1 / (rank + 1) for rank in range(len(words))]
    while length < min(size, MIB // 4):
        line = "    " * rng.randint(0, 4) + " ".join(rng.choices(words, weight, k=rng.randint(1, 9))) + rng.choice(["\n", ":\n", "()\n"])
        lines.append(line)
        length += len(line)
    # Shuffled lines from there on: whole ones recur, as in real code.
    while length < size:
        line = rng.choice(lines)
        lines.append(line)
        length += len(line)
    return "".join(lines).encode()[:size]


def kinds(size: int = 4 * MIB) -> dict[str, bytes]:
    """One sample of each kind."""
    floats = {dtype: weights(dtype, size) for dtype in ("bf16", "fp32", "fp16")}
    return floats | {"text": text(size), "random": noise(size)}
