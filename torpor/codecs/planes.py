"""Codec 3: arrays of 2- or 4-byte floats, rotated by one bit and split into byte planes, so that the exponents stand together.

A plane with structure (exponents) is Huffman coded as zstd frames, a plane of noise (mantissas) is stored.

Each step is one kernel, numpy or zstd call on a frame's worth of elements. Without the compiled kernels numpy splits and merges.
It releases the GIL within a call, and with short calls two threads spend their time handing it over: with blocks of 64 Ki elements
two threads were slower than one, with 128 Ki hardly faster, from 256 Ki on they reach 1.6 to 1.9 times its speed; beyond 512 Ki a
block no longer fits a core's cache. Hence frames of 256 KiB and not of 128, at the same ratio.
"""

from __future__ import annotations

from functools import cached_property
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

from torpor.codecs.base import NO_HINT, Buffer, Hint, Scratch, malformed
from torpor.codecs.entropy import KEEP, huffman_part, plane_bits, sample
from torpor.codecs.planes_layout import ZEROS, Layout, parse
from torpor.codecs.zstd import HUFFMAN, declared_length, options
from torpor.errors import Malformed
from torpor.format.version import CODEC_PLANES
from torpor.format.zstd import decompress
from torpor.native import kernels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Words = NDArray[np.unsignedinteger]

FRAME = 256 * 1024
_SAMPLES = 4096  # elements looked at to tell structure from noise
_PIECES = 8


class Planes:
    id = CODEC_PLANES
    name = "planes"

    def __init__(self) -> None:
        if find_spec("numpy") is None:
            raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    @cached_property
    def _np(self) -> ModuleType:
        """numpy, imported with the first chunk: that takes longer than everything before the first byte is read."""
        import numpy as np

        return np

    def encode(self, data: Buffer, scratch: Scratch, hint: Hint = NO_HINT) -> Buffer | None:
        """Without a width in the hint: 2-byte elements from the first byte on. The result lies in `scratch`."""
        raw = memoryview(data)
        width = hint.width if hint.width in (2, 4) else 2
        lead = hint.lead % width
        count = (len(raw) - lead) // width
        if count < 1:
            return None
        end = lead + count * width
        bits = plane_bits(sample(raw[lead:end], _PIECES, _SAMPLES // _PIECES * width), width, 0)
        elements = self._words(raw, width, lead, count)
        frames = [self._frames(elements, plane, scratch) if huffman_part(bits[plane]) < KEEP else None for plane in range(width)]
        lengths = tuple(None if plane is None else tuple(len(frame) for frame in plane) for plane in frames)
        layout = Layout(width, lead, len(raw) - end, count, FRAME, lengths)
        edges, offsets, total = layout.place()
        if total >= len(raw):
            return None
        out = scratch.buffer("planes", total)
        out[:edges] = layout.head()
        out[edges : edges + lead] = raw[:lead]
        out[edges + lead : edges + lead + layout.tail] = raw[end:]
        for start, stop in layout.gaps():
            out[start:stop] = ZEROS[: stop - start]
        for plane, (coded, starts) in enumerate(zip(frames, offsets, strict=True)):
            if coded is None:
                stored = self._np.frombuffer(out, self._np.uint8, count, starts[0])
                for at in range(0, count, FRAME):
                    self._split(elements[at : at + FRAME], plane, stored[at : at + FRAME], scratch)
                continue
            for start, frame in zip(starts, coded, strict=True):
                out[start : start + len(frame)] = frame
        return out

    def decode(self, coded: Buffer, raw_length: int, out: memoryview, scratch: Scratch) -> None:
        np = self._np
        source = memoryview(coded)
        layout = parse(source, raw_length)
        width, lead, count = layout.width, layout.lead, layout.elements
        edges, offsets, _ = layout.place()
        out[:lead] = source[edges : edges + lead]
        out[raw_length - layout.tail :] = source[edges + lead : edges + lead + layout.tail]
        elements = self._words(out, width, lead, count)
        for number, at in enumerate(range(0, count, layout.frame)):
            length = min(layout.frame, count - at)
            planes: list[Bytes] = []
            for lengths, starts in zip(layout.planes, offsets, strict=True):
                if lengths is None:
                    planes.append(np.frombuffer(source, np.uint8, length, starts[0] + at))
                    continue
                start = starts[number]
                frame = source[start : start + lengths[number]]
                planes.append(np.frombuffer(self._unframe(frame, length), np.uint8))
            self._merge(planes, elements[at : at + length], scratch)

    def _unframe(self, frame: memoryview, length: int) -> bytes:
        if declared_length(frame) != length:
            raise malformed(self.name, "a frame has another length than its place")
        try:
            return decompress(frame, length)
        except Malformed as error:
            raise malformed(self.name, error.what.rstrip(".")) from None

    def _words(self, raw: memoryview, width: int, lead: int, count: int) -> Words:
        words: Words = self._np.frombuffer(raw, f"<u{width}", count, lead)
        return words

    def _frames(self, elements: Words, plane: int, scratch: Scratch) -> list[bytes] | None:
        """A plane as frames; None if they don't shrink it enough."""
        compressor = scratch.compressor(options(HUFFMAN))
        frames: list[bytes] = []
        for at in range(0, len(elements), FRAME):
            block = elements[at : at + FRAME]
            split = scratch.buffer("plane", len(block))
            self._split(block, plane, self._np.frombuffer(split, self._np.uint8), scratch)
            frames.append(compressor.compress(split, compressor.FLUSH_FRAME))
        return frames if sum(map(len, frames)) <= KEEP * len(elements) else None

    def _split(self, elements: Words, plane: int, into: Bytes, scratch: Scratch) -> None:
        """Byte `plane` of each element rotated left by one bit. The casts drop all higher bits."""
        np, compiled = self._np, kernels.library()
        if compiled is not None:
            kernels.split(compiled, elements.ctypes.data, elements.itemsize, plane, into.ctypes.data, len(elements))
            return
        word = elements.dtype.newbyteorder("=")
        if plane:
            np.right_shift(elements, 8 * plane - 1, out=into, dtype=word, casting="unsafe")
            return
        np.left_shift(elements, 1, out=into, dtype=word, casting="unsafe")
        # The sign bit comes round to the bottom: 1 for what is negative as a signed integer.
        signs = np.frombuffer(scratch.buffer("signs", len(elements)), np.bool_)
        np.less(elements.view(elements.dtype.str.replace("u", "i")), 0, out=signs)
        np.bitwise_or(into, signs.view(np.uint8), out=into)

    def _merge(self, planes: list[Bytes], into: Words, scratch: Scratch) -> None:
        """The inverse of `_split`, for all planes at once: pairs of planes to 2-byte words, a pair of those to 4-byte words."""
        np, compiled = self._np, kernels.library()
        count = len(into)
        if compiled is not None:
            kernels.merge(compiled, [plane.ctypes.data for plane in planes], into.ctypes.data, count)
            return
        halves: list[Words] = []
        for low in range(0, len(planes), 2):
            half = np.frombuffer(scratch.buffer(f"half{low}", 2 * count), np.uint16)
            np.left_shift(planes[low + 1], 8, out=half, dtype=np.uint16, casting="unsafe")
            np.bitwise_or(half, planes[low], out=half)
            halves.append(half)
        rotated = halves[0]
        if len(halves) == 2:
            rotated = np.frombuffer(scratch.buffer("whole", 4 * count), np.uint32)
            np.left_shift(halves[1], 16, out=rotated, dtype=np.uint32, casting="unsafe")
            np.bitwise_or(rotated, halves[0], out=rotated)
        np.right_shift(rotated, 1, out=into)
        np.left_shift(rotated, 8 * into.dtype.itemsize - 1, out=rotated)
        np.bitwise_or(into, rotated, out=into)
