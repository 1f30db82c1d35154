"""The same kernels on a real GPU give the same bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.gpu.planes import EDGES, KINDS, decoded, exponents, lengths, made_up, on_cpu, on_device
from tests.gpu.shim import Shim
from torpor.codecs.base import Hint, Scratch
from torpor.codecs.planes import Planes, worth
from torpor.errors import MissingDependency
from torpor.gpu import coder
from torpor.gpu.device import Cuda
from torpor.gpu.records import DAMAGED, OK
from torpor.gpu.tryout import tryout
from torpor.testing.samples import noise, weights


@pytest.mark.gpu
def test_frames_are_those_of_the_cpu_build(library: Path) -> None:
    cuda, shim = Cuda(), Shim(library)
    for plane in [exponents("bf16"), exponents("fp16"), *(made_up(kind, size) for kind in KINDS for size in EDGES)]:
        frames = on_device(cuda, plane)
        assert frames == on_device(shim, plane)
        assert decoded(cuda, frames, lengths(len(plane))) == (plane.tobytes(), [OK] * len(frames))


@pytest.mark.gpu
def test_the_cpus_frames_are_decoded() -> None:
    plane = exponents("bf16", 1 << 24)
    frames = on_cpu(plane)
    out, status = decoded(Cuda(), [*frames, frames[0][:-1]], [*lengths(len(plane)), len(frames[0])])
    assert status == [*([OK] * len(frames)), DAMAGED]
    assert out[: len(plane)] == plane.tobytes()


@pytest.mark.gpu
@pytest.mark.parametrize("width", [2, 4])
def test_splits_and_merges(width: int) -> None:
    cuda, raw = Cuda(), noise(width * 1_000_003)
    planes = coder.split(cuda, cuda.upload(np.frombuffer(raw, np.uint8)), width, 1_000_003, [True] * width)
    assert cuda.download(coder.merge(cuda, planes, 1_000_003)).tobytes() == raw


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_chunks_through_the_process(dtype: str) -> None:
    raw, width = weights(dtype), 4 if dtype == "fp32" else 2
    _, wanted = worth(memoryview(raw), Hint(width))
    mask = sum(want << plane for plane, want in enumerate(wanted))
    cpu = bytes(Planes().encode(raw, Scratch(), Hint(width)) or b"")
    with tryout(16) as gpu:
        _, coded = gpu.encode(raw, width, mask, 0.1)
        for one in {*coded}:
            out = bytearray(len(raw))
            Planes().decode(one, len(raw), memoryview(out), Scratch())
            assert out == raw
        for one in (coded[0], cpu):
            assert {*gpu.decode(one, len(raw), 0.1)[1]} == {raw}
            assert min(gpu.copies(len(raw), 0.1)) > 0


def test_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(MissingDependency, match="CuPy"):
        Cuda()
