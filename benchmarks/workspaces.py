"""Workspaces that peers are compared on, each the same for the same size; and what a day's work changes in one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.measure import MIB, size_of
from torpor.testing.packages import virtual_environment
from torpor.testing.trees import bf16, fp16, fp32, ml_workspace, write_safetensors

USUAL = 1500 * MIB  # the size at which a virtual environment has 30,000 files
VENV_FILES = 30_000
_PIECE = 4 * MIB


class Workspace(NamedTuple):
    """`make(root, size)` makes about `size` bytes; `dtype` is what zipnn has to be told, empty where it is no use."""

    text: str
    make: Callable[[Path, int], object]
    dtype: str = ""


def _weights(dtype: str, tensors: Callable[[np.random.Generator, int], Iterator[bytes]]) -> Callable[[Path, int], None]:
    def make(root: Path, size: int) -> None:
        root.mkdir(parents=True)
        generator = np.random.default_rng(0)
        for number in range(2):
            name = root / f"model-0000{number + 1}-of-00002.safetensors"
            write_safetensors(name, dtype, tensors(generator, size // 2))

    return make


def _adam(root: Path, size: int) -> None:
    """fp32 weights, and both moments of Adam in a file without a header that tells the type, as a .pt file."""
    root.mkdir(parents=True)
    generator = np.random.default_rng(0)
    third = size // 3
    write_safetensors(root / "model.safetensors", "F32", fp32(generator, third))
    with open(root / "optimizer.pt", "wb") as file:
        file.write(b"PK\x03\x04" + bytes(60))
        for number in range(2):
            for at in range(0, third, _PIECE):
                count = min(_PIECE, third - at) // 4
                moment = generator.standard_normal(count, dtype=np.float32)
                # Gradients spread over orders of magnitude; the second moment is the mean of their squares.
                moment = np.exp(moment) * np.float32(1e-9) if number else moment * np.float32(1e-5 * generator.lognormal(0, 1))
                file.write(moment.tobytes())


def _packages(root: Path, size: int) -> None:
    virtual_environment(root, max(1, VENV_FILES * size // USUAL))


def _noise(root: Path, size: int) -> None:
    """What is compressed already: half of it archives, half of it images."""
    (root / "images").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(2):
        with open(root / f"archive{number}.tar.zst", "wb") as file:
            file.writelines(generator.bytes(min(_PIECE, size // 4 - at)) for at in range(0, size // 4, _PIECE))
    left, number = size // 2, 0
    while left > 0:
        length = min(left, int(generator.integers(64, 320)) * 1024)
        (root / "images" / f"{number:05d}.jpg").write_bytes(generator.bytes(length))
        left, number = left - length, number + 1


def sparse(root: Path, gib: int) -> None:
    """One file of `gib` GiB with 4 MiB of data in every 64 MiB."""
    root.mkdir(parents=True)
    piece = os.urandom(MIB)
    with open(root / "disk.img", "wb") as file:
        file.truncate(gib * 1024 * MIB)
        for at in range(0, gib * 1024 * MIB, 64 * MIB):
            file.seek(at)
            file.writelines(piece[number:] + piece[:number] for number in range(4))


def many(root: Path, count: int) -> None:
    """`count` files of about 200 bytes, 500 a folder."""
    folder = root
    for number in range(count):
        if number % 500 == 0:
            folder = root / f"{number // 50_000:03d}" / f"{number // 500:05d}"
            folder.mkdir(parents=True)
        fd = os.open(f"{folder}/file-{number:07d}.txt", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        os.write(fd, b"%d\n" % number * 24)
        os.close(fd)


ROWS = {
    "bf16": Workspace("weights in bf16", _weights("BF16", bf16), "bfloat16"),
    "fp16": Workspace("weights in fp16", _weights("F16", fp16), "float16"),
    "fp32": Workspace("weights in fp32, with the state of Adam", _adam, "float32"),
    "venv": Workspace("a virtual environment of small files", _packages),
    "mixed": Workspace("a training machine: weights, optimizer state, packages, data, code", ml_workspace),
    "incompressible": Workspace("archives and images, which nothing shrinks", _noise),
    "day": Workspace("a day's change of about 3 % of the mixed workspace", ml_workspace),
}


def change(root: Path, day: int, part: float = 0.03) -> int:
    """What one day changes in a mixed workspace, about `part` of its bytes; the bytes that were written are returned.

    A new checkpoint, a piece of the optimizer state in place, more rows of data, new images, edits of the code; old images go.
    """
    generator = np.random.default_rng(1000 + day)
    budget = int(part * size_of(root))
    step = root / "checkpoints" / f"step-{day:05d}.safetensors"
    written = write_safetensors(step, "BF16", bf16(generator, int(0.6 * budget)))
    optimizer = root / "checkpoints" / "optimizer.pt"
    length = int(0.25 * budget) // 4 * 4
    with open(optimizer, "r+b") as file:
        file.seek(64 + int(generator.integers(0, max(1, (optimizer.stat().st_size - 64 - length) // 4))) * 4)
        written += sum(file.write(piece) for piece in fp32(generator, length))
    with open(root / "data" / "train.csv", "a", encoding="ascii") as table:
        for number in range(int(0.1 * budget) // 40):
            row = generator.normal(size=3)
            written += table.write(f"{day}{number},{row[0]:.6f},{row[1]:.6f},{row[2]:.6f},label{number % 7}\n")
    images = root / "data" / "images"
    for old in sorted(images.glob("*.jpg"))[:3]:
        old.unlink()
    for number in range(max(1, int(0.05 * budget) // (192 * 1024))):
        written += (images / f"day{day:03d}-{number:04d}.jpg").write_bytes(generator.bytes(192 * 1024))
    for path in sorted((root / "src").rglob("*.py"))[day % 7 :: 7]:
        with open(path, "a", encoding="utf-8") as file:
            written += file.write(f"# day {day}\n")
    return written
