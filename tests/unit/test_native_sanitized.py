"""The kernels under AddressSanitizer and UndefinedBehaviorSanitizer, on coded bytes of all sorts; zstd itself is as its wheel has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.house import ROOT
from tools.hatch_build import NATIVE

FLAGS = ["-std=gnu11", "-O1", "-g", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FUZZ = """
import sys
sys.path.insert(0, sys.argv[2])
from random import Random
from torpor.native import coding, kernels
kernels.FILE = sys.argv[1]
from torpor.codecs.base import Hint, Scratch
from torpor.codecs.entropy import plane_bits
from torpor.codecs.table import by_id
from torpor.errors import Malformed
assert coding.native() is not None
dice, good = Random(7), 0

def mutate(coded):
    yield bytes(coded)
    yield bytes(coded[: dice.randrange(len(coded))])
    yield bytes(coded) + dice.randbytes(20)
    for place in [*range(0, min(len(coded), 64), 3), *(dice.randrange(len(coded)) for _ in range(40))]:
        changed = bytearray(coded)
        changed[place] ^= 1 << dice.randrange(8)
        yield changed

few = bytes(dice.choices(range(16), k=600_000))
for codec, width, lead in [(1, 0, 0), (3, 2, 0), (3, 2, 1), (3, 4, 0), (3, 4, 3)]:
    for size in (1, 2, 33, 1000, 70_001, 600_000):
        raw, scratch = bytearray(few[:size]), Scratch()
        if codec == 3:
            raw[: size // 2] = dice.randbytes(size // 2)
        coded = by_id(codec).encode(raw, scratch, Hint(width, lead))
        for length in (size, size + width, max(size - 1, 1)):
            for changed in mutate(bytearray(coded)) if coded is not None else ():
                out = bytearray(length)
                try:
                    by_id(codec).decode(bytearray(changed), length, memoryview(out), Scratch() if size < 70_000 else scratch)
                    good += out == raw
                except Malformed:
                    pass
for size in range(40):
    plane_bits(few[:size], 4, size % 4)
from array import array
pieces = memoryview(bytearray(few[:40_000]))
for size in (0, 1, 64, 65, 1000, 1024, 1025, 5000):
    offsets = array("I", [*range(0, 30_000, 997), 40_000 - size])
    lengths = array("I", [size] * len(offsets))
    kernels.hash_many(kernels.library(), pieces, offsets, lengths, bytes(32))
print("good", good)
if len(sys.argv) > 3:  # does anybody watch?
    short = bytearray(5000)
    kernels.split(kernels.library(), kernels.address(raw), 2, 1, kernels.address(short), 250_000)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("sanitized") / "kernels.so"
    sources = sorted((ROOT / NATIVE).glob("*.c"))
    subprocess.run(["gcc", *FLAGS, *SANITIZE, "-DNO_CLONES", "-o", target, *sources], check=True, timeout=120)
    return target


def run(library: Path, *more: str) -> subprocess.CompletedProcess[str]:
    runtime = subprocess.run(["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True, timeout=60).stdout
    environment = os.environ | {"LD_PRELOAD": runtime.strip(), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    command = [sys.executable, "-I", "-c", FUZZ, str(library), str(ROOT), *more]
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=240)


def test_coded_bytes_of_all_sorts(library: Path) -> None:
    done = run(library)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) > 20


def test_the_sanitizer_watches(library: Path) -> None:
    done = run(library, "overrun")
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
