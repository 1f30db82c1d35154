"""Codec 3: arrays of 2- or 4-byte floats, rotated by one bit and split into byte planes, so that the exponents stand together.

A plane with structure (exponents) is Huffman coded as zstd frames, a plane of noise (mantissas) is stored. One compiled call codes or
decodes a chunk, frame by frame in a core's cache; what it refuses, and everything where it is not there, goes through `planes_numpy`.

Frames of 256 KiB: beyond 512 KiB the elements of one no longer fit a core's cache, and without the compiled call, which lets go of the
interpreter's lock once a chunk, threads spend their time handing it over when frames are shorter.
"""

from __future__ import annotations

from importlib.util import find_spec

from torpor.codecs import planes_numpy
from torpor.codecs.base import NO_HINT, Buffer, Hint, Scratch
from torpor.codecs.entropy import KEEP, huffman_part, plane_bits, sample
from torpor.codecs.planes_layout import ALIGN, HEAD, ZEROS, Layout, aligned, parse
from torpor.codecs.zstd import HUFFMAN, options
from torpor.format.version import CODEC_PLANES
from torpor.native import coding

FRAME = 256 * 1024
_SAMPLES = 4096  # elements looked at to tell structure from noise
_PIECES = 8


class Planes:
    id = CODEC_PLANES
    name = "planes"

    def __init__(self) -> None:
        if coding.native() is None and find_spec("numpy") is None:
            raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    def encode(self, data: Buffer, scratch: Scratch, hint: Hint = NO_HINT) -> Buffer | None:
        """Without a width in the hint: 2-byte elements from the first byte on. The result lies in `scratch`."""
        raw = memoryview(data)
        lead, wanted = worth(raw, hint)
        if not any(wanted):
            return None
        native = coding.native()
        encoder = None if native is None else scratch.contexts(native).encoder(options(HUFFMAN))
        if native is None or encoder is None:
            return planes_numpy.encode(raw, lead, wanted, FRAME, scratch)
        return _encode(native, encoder, raw, lead, wanted, scratch)

    def decode(self, coded: Buffer, raw_length: int, out: memoryview, scratch: Scratch) -> None:
        source = memoryview(coded)
        layout = parse(source, raw_length)
        edges, offsets, _ = layout.place()
        end = raw_length - layout.tail
        out[: layout.lead] = source[edges : edges + layout.lead]
        out[end:] = source[edges + layout.lead : edges + layout.lead + layout.tail]
        elements = out[layout.lead : end]
        native = coding.native()
        if native is not None:
            framed = sum(plane is not None for plane in layout.planes)
            room = scratch.buffer("decoded", framed * min(layout.frame, layout.elements))
            contexts = scratch.contexts(native)
            if coding.decode_planes(native, contexts, source, layout.planes, offsets, layout.frame, room, elements):
                return
        planes_numpy.decode(source, layout, offsets, elements, scratch)


def worth(raw: memoryview, hint: Hint) -> tuple[int, list[bool]]:
    """(bytes before the first element, for each plane whether a look at a sample says that it shrinks); no plane: nothing to code."""
    width = hint.width if hint.width in (2, 4) else 2
    lead = hint.lead % width
    count = (len(raw) - lead) // width
    if count < 1:
        return lead, []
    bits = plane_bits(sample(raw[lead : lead + count * width], _PIECES, _SAMPLES // _PIECES * width), width, 0)
    return lead, [huffman_part(carried) < KEEP for carried in bits]


def _encode(native: coding.Native, encoder: int, raw: memoryview, lead: int, wanted: list[bool], scratch: Scratch) -> memoryview | None:
    width = len(wanted)
    count = (len(raw) - lead) // width
    end = lead + count * width
    frames = -(-count // FRAME)
    # The head is as long as there are planes that shrink, so it is written last, up against the first plane.
    first = aligned(HEAD.size + width + 4 * frames * width + lead + len(raw) - end)
    room = width * (count + ALIGN * frames) + native.bound(min(FRAME, count))
    out = scratch.buffer("coded", first + room)
    split = scratch.buffer("plane", min(FRAME, count))
    made = coding.encode_planes(native, encoder, raw[lead:end], wanted, FRAME, int(KEEP * count), split, out[first:])
    if made is None:
        return None
    size, lengths = made
    layout = Layout(width, lead, len(raw) - end, count, FRAME, lengths)
    head = b"".join([layout.head(), raw[:lead], raw[end:]])
    start = first - aligned(len(head))
    if first + size - start >= len(raw):
        return None
    out[start:first] = head + ZEROS[: first - start - len(head)]
    return out[start : first + size]
