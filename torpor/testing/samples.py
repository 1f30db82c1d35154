"""Bytes of the kinds that workspaces hold, the same for the same seed; for tests and benchmarks of codecs."""

from __future__ import annotations

import random
from functools import lru_cache

import numpy as np

MIB = 1024 * 1024


@lru_cache(32)
def weights(dtype: str, size: int = 4 * MIB, seed: int = 1) -> bytes:
    """`size` bytes of an array of `dtype` (bf16, fp16, fp32), normally distributed around 0 with deviation 0.02, as weights are."""
    count = -(-size // (4 if dtype == "fp32" else 2))
    floats = np.random.default_rng(seed).standard_normal(count, dtype=np.float32) * np.float32(0.02)
    if dtype == "fp32":
        return floats.tobytes()[:size]
    if dtype == "fp16":
        return floats.astype("<f2").tobytes()[:size]
    if dtype == "bf16":
        return (floats.view("<u4") >> 16).astype("<u2").tobytes()[:size]
    raise ValueError(f"no such dtype: {dtype}")


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
        line = (
            "    " * rng.randint(0, 4)
            + " ".join(rng.choices(words, weight, k=rng.randint(1, 9)))
            + rng.choice(["\n", ":\n", "()\n"])
        )
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
