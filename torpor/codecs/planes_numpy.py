"""The codec `planes` where its compiled call is missing, or refuses bytes: step by step, and so that it says what is wrong.

Each step is one kernel, numpy or zstd call on a frame's worth of elements; without the compiled kernels numpy splits and merges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.codecs.base import Scratch, malformed
from torpor.codecs.entropy import KEEP
from torpor.codecs.planes_layout import ZEROS, Layout
from torpor.codecs.zstd import HUFFMAN, declared_length, options
from torpor.errors import Malformed
from torpor.format.zstd import decompress
from torpor.native import kernels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Words = NDArray[np.unsignedinteger]


def encode(raw: memoryview, lead: int, wanted: list[bool], frame: int, scratch: Scratch) -> memoryview | None:
    """`raw` coded, its elements of as many bytes as there are `wanted` planes; None if it does not shrink. Lies in `scratch`."""
    import numpy as np

    width = len(wanted)
    count = (len(raw) - lead) // width
    end = lead + count * width
    elements = _words(raw[lead:end], width)
    frames = [_frames(elements, plane, frame, scratch) if wanted[plane] else None for plane in range(width)]
    lengths = tuple(None if plane is None else tuple(map(len, plane)) for plane in frames)
    layout = Layout(width, lead, len(raw) - end, count, frame, lengths)
    edges, offsets, total = layout.place()
    if total >= len(raw):
        return None
    out = scratch.buffer("coded", total)
    out[:edges] = layout.head()
    out[edges : edges + lead] = raw[:lead]
    out[edges + lead : edges + lead + layout.tail] = raw[end:]
    for start, stop in layout.gaps():
        out[start:stop] = ZEROS[: stop - start]
    for plane, (coded, starts) in enumerate(zip(frames, offsets, strict=True)):
        if coded is None:
            stored = np.frombuffer(out, np.uint8, count, starts[0])
            for at in range(0, count, frame):
                _split(elements[at : at + frame], plane, stored[at : at + frame], scratch)
            continue
        for start, part in zip(starts, coded, strict=True):
            out[start : start + len(part)] = part
    return out


def decode(coded: memoryview, layout: Layout, offsets: list[list[int]], out: memoryview, scratch: Scratch) -> None:
    """The elements of parsed bytes. Raises `Malformed`."""
    import numpy as np

    count, frame = layout.elements, layout.frame
    elements = _words(out, layout.width)
    for number, at in enumerate(range(0, count, frame)):
        length = min(frame, count - at)
        planes: list[Bytes] = []
        for lengths, starts in zip(layout.planes, offsets, strict=True):
            if lengths is None:
                planes.append(np.frombuffer(coded, np.uint8, length, starts[0] + at))
                continue
            start = starts[number]
            planes.append(np.frombuffer(_unframe(coded[start : start + lengths[number]], length), np.uint8))
        _merge(planes, elements[at : at + length], scratch)


def _unframe(frame: memoryview, length: int) -> bytes:
    if declared_length(frame) != length:
        raise malformed("planes", "a frame has another length than its place")
    try:
        return decompress(frame, length)
    except Malformed as error:
        raise malformed("planes", error.what.rstrip(".")) from None


def _words(raw: memoryview, width: int) -> Words:
    import numpy as np

    words: Words = np.frombuffer(raw, f"<u{width}")
    return words


def _frames(elements: Words, plane: int, frame: int, scratch: Scratch) -> list[bytes] | None:
    """A plane as frames; None if they don't shrink it enough."""
    import numpy as np

    compressor = scratch.compressor(options(HUFFMAN))
    frames: list[bytes] = []
    for at in range(0, len(elements), frame):
        block = elements[at : at + frame]
        split = scratch.buffer("plane", len(block))
        _split(block, plane, np.frombuffer(split, np.uint8), scratch)
        frames.append(compressor.compress(split, compressor.FLUSH_FRAME))
    return frames if sum(map(len, frames)) <= KEEP * len(elements) else None


def _split(elements: Words, plane: int, into: Bytes, scratch: Scratch) -> None:
    """Byte `plane` of each element rotated left by one bit. The casts drop all higher bits."""
    import numpy as np

    compiled = kernels.library()
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


def _merge(planes: list[Bytes], into: Words, scratch: Scratch) -> None:
    """The inverse of `_split`, for all planes at once: pairs of planes to 2-byte words, a pair of those to 4-byte words."""
    import numpy as np

    compiled = kernels.library()
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
