"""Does it pay to store a checkpoint as its difference (xor) from the one beside it? Bytes stored, and speed of the way back.

    ./dev bench delta [--size MIB] [--steps N …] [--save NAME]

Two checkpoints of one training run, N steps of Adam apart: bf16 weights, fp32 master weights and fp32 first and second moments. The
gradients are noise around a slowly turning direction, the learning rate is 1e-4: nothing here knows a model, only how far Adam moves.
`alone`: planes of the second checkpoint. `xor`: planes of its difference, and undoing it against the first one, which is in memory.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import MIB, median, save, table
from torpor.codecs.base import Buffer, Hint, Scratch
from torpor.codecs.table import by_id
from torpor.format.version import CHUNK_MAX, CODEC_PLANES

Floats = NDArray[np.float32]
RATE, BETA1, BETA2 = 1e-4, 0.9, 0.999


class Run:
    """Parameters under Adam."""

    def __init__(self, count: int) -> None:
        self._noise = np.random.default_rng(1)
        self.weights = self._draw(count) * np.float32(0.02)
        self.m, self.v = np.zeros(count, np.float32), np.zeros(count, np.float32)
        self._drift = self._draw(count) * np.float32(1e-3)
        self.step = 0

    def _draw(self, count: int) -> Floats:
        return self._noise.standard_normal(count, dtype=np.float32)

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.step += 1
            gradient = self._drift + self._draw(len(self.weights)) * np.float32(3e-3)
            self.m += np.float32(1 - BETA1) * (gradient - self.m)
            self.v += np.float32(1 - BETA2) * (gradient * gradient - self.v)
            fair1, fair2 = np.float32(1 - BETA1**self.step), np.float32(1 - BETA2**self.step)
            self.weights -= np.float32(RATE) * (self.m / fair1) / (np.sqrt(self.v / fair2) + np.float32(1e-8))

    def checkpoint(self) -> dict[str, bytes]:
        rounded = (self.weights.view(np.uint32) + 0x8000) >> 16
        return {
            "bf16 weights": rounded.astype("<u2").tobytes(),
            "fp32 weights": self.weights.tobytes(),
            "fp32 m": self.m.tobytes(),
            "fp32 v": self.v.tobytes(),
        }


def _xor(one: Buffer, two: Buffer) -> NDArray[np.uint64]:
    return np.bitwise_xor(np.frombuffer(one, np.uint64), np.frombuffer(two, np.uint64))


def _stored(data: bytes, width: int) -> list[bytes]:
    codec, scratch = by_id(CODEC_PLANES), Scratch()
    out: list[bytes] = []
    for at in range(0, len(data), CHUNK_MAX):
        chunk = data[at : at + CHUNK_MAX]
        coded = codec.encode(chunk, scratch, Hint(width=width))
        out.append(chunk if coded is None else bytes(coded))
    return out


def _decode(chunks: list[bytes], base: bytes | None, length: int) -> float:
    codec, scratch, out = by_id(CODEC_PLANES), Scratch(), bytearray(CHUNK_MAX)
    began = time.perf_counter()
    for number, chunk in enumerate(chunks):
        size = min(CHUNK_MAX, length - number * CHUNK_MAX)
        view = memoryview(out)[:size]
        if len(chunk) == size:
            view[:] = chunk
        else:
            codec.decode(chunk, size, view, scratch)
        if base is not None:
            words = np.frombuffer(view, np.uint64)
            np.bitwise_xor(words, np.frombuffer(base, np.uint64, size // 8, number * CHUNK_MAX), out=words)
    return length / (time.perf_counter() - began) / 1e9


def _speed(once: Callable[[], float]) -> float:
    return median([once() for _ in range(5)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=64, help="MiB of fp32 weights")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--save", default="")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[list[str]] = []
    data: list[dict[str, object]] = []
    for steps in options.steps:
        run = Run(options.size * MIB // 4)
        run.train(50)
        before = run.checkpoint()
        run.train(steps)
        for name, now in run.checkpoint().items():
            width = 2 if name.startswith("bf16") else 4
            alone, delta = _stored(now, width), _stored(_xor(before[name], now).tobytes(), width)
            ratios = [len(now) / sum(map(len, chunks)) for chunks in (alone, delta)]
            speeds = [_speed(lambda: _decode(alone, None, len(now))), _speed(lambda: _decode(delta, before[name], len(now)))]  # noqa: B023
            rows.append([name, str(steps), *(f"{value:.2f}" for value in (*ratios, *speeds))])
            data.append({"what": name, "steps": steps, "ratio": ratios, "decode_gb_s": speeds})
    print(json.dumps(data) if options.json else table(["", "steps", "alone", "xor", "alone GB/s", "xor GB/s"], rows))
    if options.save:
        save(f"delta-{options.save}", {"rows": data})


if __name__ == "__main__":
    main()
