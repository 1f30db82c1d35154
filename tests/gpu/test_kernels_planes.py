"""Splitting and merging by the kernels: the bytes of the codec `planes`, which also decodes what they code."""

from __future__ import annotations

import numpy as np
import pytest

from tests.gpu.planes import on_device, rotated
from tests.gpu.shim import Shim
from torpor.codecs.base import Scratch
from torpor.codecs.planes import FRAME, Planes
from torpor.codecs.planes_layout import Layout
from torpor.gpu import coder
from torpor.native import kernels
from torpor.testing.samples import noise, weights

COUNTS = [1, 2, 3, 7, 8, 9, 15, 16, 17, 4095, 4096, 4097, 70_001]


@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("count", COUNTS)
def test_splits_and_merges(shim: Shim, width: int, count: int) -> None:
    raw = noise(count * width)
    elements = shim.upload(np.frombuffer(raw, np.uint8))
    planes = coder.split(shim, elements, width, count, [True] * width)
    assert np.array_equal([shim.download(plane) for plane in planes], rotated(raw, width))
    assert shim.download(coder.merge(shim, planes, count)).tobytes() == raw
    some = coder.split(shim, elements, width, count, [plane == 1 for plane in range(width)])
    assert [plane is not None for plane in some] == [plane == 1 for plane in range(width)]
    assert np.array_equal(shim.download(some[1]), rotated(raw, width)[1])


@pytest.mark.parametrize("width", [2, 4])
def test_splits_as_the_compiled_loops_do(shim: Shim, width: int) -> None:
    compiled = kernels.library()
    assert compiled is not None
    raw = np.frombuffer(noise(4001 * width), np.uint8)
    for plane, got in enumerate(coder.split(shim, shim.upload(raw), width, 4001, [True] * width)):
        want = np.empty(4001, np.uint8)
        kernels.split(compiled, raw.ctypes.data, width, plane, want.ctypes.data, 4001)
        assert np.array_equal(shim.download(got), want)


@pytest.mark.parametrize(("dtype", "width"), [("bf16", 2), ("fp16", 2), ("fp32", 4)])
def test_the_codec_decodes_a_chunk_made_of_it(shim: Shim, dtype: str, width: int) -> None:
    """All planes but the lowest as frames, laid out as the format says."""
    raw = weights(dtype, 2 << 20)
    count = len(raw) // width
    split = coder.split(shim, shim.upload(np.frombuffer(raw, np.uint8)), width, count, [True] * width)
    planes = [shim.download(plane) for plane in split]
    frames: list[list[bytes] | None] = [None, *(on_device(shim, plane) for plane in planes[1:])]
    layout = Layout(width, 0, 0, count, FRAME, tuple(tuple(map(len, plane)) if plane else None for plane in frames))
    _, offsets, total = layout.place()
    coded = bytearray(total)
    coded[: len(layout.head())] = layout.head()
    for plane, made, starts in zip(planes, frames, offsets, strict=True):
        for start, frame in zip(starts, made or [plane.tobytes()], strict=True):
            coded[start : start + len(frame)] = frame
    out = bytearray(len(raw))
    Planes().decode(coded, len(raw), memoryview(out), Scratch())
    assert out == raw


def test_refuses_other_widths(shim: Shim) -> None:
    with pytest.raises(ValueError, match="2 or 4"):
        coder.split(shim, shim.zeros(24), 3, 8, [True] * 3)
    with pytest.raises(ValueError, match="2 or 4"):
        coder.merge(shim, [shim.zeros(8)] * 3, 8)
