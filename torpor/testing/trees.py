"""Workspaces for the demo, tests and benchmarks: what a training machine holds, in any size."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIB = 1024 * 1024
_TENSOR = 4 * MIB


def _normal(generator: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Weights of one tensor: normal, with a deviation of its own around 0.02, as trained layers have."""
    import numpy as np

    weights: NDArray[np.float32] = generator.standard_normal(count, dtype=np.float32)
    weights *= np.float32(0.02 * generator.lognormal(0, 0.6))
    return weights


def bf16(generator: np.random.Generator, size: int) -> Iterator[bytes]:
    """About `size` bytes of bf16 weights, a tensor of 4 MiB at a time."""
    import numpy as np

    for at in range(0, size, _TENSOR):
        count = min(_TENSOR, size - at) // 2
        yield (_normal(generator, count).view(np.uint32) >> 16).astype(np.uint16).tobytes()


def fp16(generator: np.random.Generator, size: int) -> Iterator[bytes]:
    import numpy as np

    for at in range(0, size, _TENSOR):
        yield _normal(generator, min(_TENSOR, size - at) // 2).astype(np.float16).tobytes()


def fp32(generator: np.random.Generator, size: int) -> Iterator[bytes]:
    for at in range(0, size, _TENSOR):
        yield _normal(generator, min(_TENSOR, size - at) // 4).tobytes()


def write_safetensors(path: Path, dtype: str, tensors: Iterator[bytes]) -> int:
    """Write tensors as a .safetensors file; its size in bytes is returned."""
    blobs: list[int] = []
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    width = 4 if dtype == "F32" else 2
    body = path.with_suffix(".body")
    at = 0
    with open(body, "wb") as file:
        for number, data in enumerate(tensors):
            header[f"model.layers.{number}.weight"] = {
                "dtype": dtype, "shape": [len(data) // width], "data_offsets": [at, at + len(data)],
            }  # fmt: skip
            file.write(data)
            at += len(data)
            blobs.append(len(data))
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with open(path, "wb") as file, open(body, "rb") as source:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        shutil.copyfileobj(source, file, 8 * MIB)
    body.unlink()
    return path.stat().st_size


def packages(target: Path, size: int) -> int:
    """A small virtual environment: real packages of this interpreter, copied until `size` bytes; the bytes are returned."""
    source = Path(sysconfig.get_paths()["purelib"])
    total = 0
    for folder, names, files in os.walk(source):
        names[:] = sorted(name for name in names if name != "__pycache__")
        for name in sorted(files):
            path = Path(folder, name)
            if total >= size:
                return total
            if path.is_file() and not path.is_symlink():
                copy = target / path.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)
                total += copy.stat().st_size
    return total


def ml_workspace(root: Path, size: int, seed: int = 0) -> None:
    """A mixed workspace of about `size` bytes: half bf16 weights, a quarter fp32 optimizer state, packages, data, code.

    The optimizer state has no header that tells its type, as in a .pt file. A tenth is random, like images.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    (root / "checkpoints").mkdir(parents=True)
    (root / "data" / "images").mkdir(parents=True)
    (root / "src" / "model").mkdir(parents=True)
    half = size // 2
    for number in range(2):
        name = root / "checkpoints" / f"model-0000{number + 1}-of-00002.safetensors"
        write_safetensors(name, "BF16", bf16(generator, half // 2))
    with open(root / "checkpoints" / "optimizer.pt", "wb") as file:
        file.write(b"PK\x03\x04" + bytes(60))
        file.writelines(fp32(generator, size // 5))
    packages(root / ".venv" / "lib" / "python3" / "site-packages", size // 10)
    for number in range(max(1, size // 10 // (192 * 1024))):
        with open(root / "data" / "images" / f"{number:05d}.jpg", "wb") as file:
            file.write(b"\xff\xd8\xff\xe0" + generator.bytes(int(generator.integers(64, 320)) * 1024))
    with open(root / "data" / "train.csv", "w", encoding="ascii") as table:
        for number in range(size // 10 // 60):
            row = generator.normal(size=4)
            table.write(f"{number},{row[0]:.6f},{row[1]:.6f},{row[2]:.6f},{row[3]:.6f},label{number % 7}\n")
    _code(root)


def _code(root: Path) -> None:
    source = Path(__file__).resolve().parent.parent
    for path in sorted(source.rglob("*.py")):
        copy = root / "src" / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    (root / "train.sh").write_text("#!/bin/sh\nexec python src/train.py --resume checkpoints\n")
    (root / "train.sh").chmod(0o755)
    (root / "config.yaml").write_text("model: demo\nlr: 3.0e-4\nsteps: 10000\n")
    (root / "latest").symlink_to("checkpoints/model-00001-of-00002.safetensors")
    os.link(root / "config.yaml", root / "src" / "config.yaml")
    (root / "logs").mkdir()
