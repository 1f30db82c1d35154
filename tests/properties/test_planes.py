"""The codec `planes` against a second reading of docs/format.md §6, written here in plain integers."""

from __future__ import annotations

import struct
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit import ways
from torpor.codecs.base import Hint, Scratch
from torpor.codecs.planes import Planes
from torpor.codecs.planes_layout import parse
from torpor.errors import Malformed
from torpor.format.zstd import compress, decompress

FRAME = 131_072
PLANES = Planes()
SCRATCH = Scratch()

widths = st.sampled_from([(w, lead) for w in (2, 4) for lead in range(w)])


def split(raw: bytes, w: int, lead: int) -> tuple[list[bytes], bytes]:
    """(planes, lead and tail bytes)."""
    n = (len(raw) - lead) // w
    end = lead + n * w
    top = 8 * w - 1
    words = [int.from_bytes(raw[at : at + w], "little") for at in range(lead, end, w)]
    rotated = [(x << 1 | x >> top) & (1 << 8 * w) - 1 for x in words]
    return [bytes(x >> 8 * k & 0xFF for x in rotated) for k in range(w)], raw[:lead] + raw[end:]


def write(raw: bytes, w: int, lead: int, modes: list[int], level: int = 1, frame: int = FRAME) -> bytes:
    planes, edges = split(raw, w, lead)
    n = len(planes[0])
    framed = [[compress(plane[at : at + frame], level) for at in range(0, n, frame)] for plane in planes]
    head = struct.pack("<BBBBIII", 1, w, lead, len(edges) - lead, n, frame, 0) + bytes(modes)
    head += b"".join(struct.pack("<I", len(f)) for mode, frames in zip(modes, framed, strict=True) if mode for f in frames)
    out = head + edges
    for mode, plane, frames in zip(modes, planes, framed, strict=True):
        for part in frames if mode else [plane]:
            out += bytes(-len(out) % 16) + part
    return out


def read(coded: bytes) -> bytes:
    _, w, lead, tail, n, frame, _ = struct.unpack_from("<BBBBIII", coded)
    modes = coded[16 : 16 + w]
    frames = -(-n // frame)
    lengths = list(struct.unpack_from(f"<{frames * sum(modes)}I", coded, 16 + w))
    at = 16 + w + 4 * len(lengths)
    edges = coded[at : at + lead + tail]
    at += lead + tail
    planes = []
    for mode in modes:
        plane = b""
        for j in range(frames if mode else 1):
            at += -at % 16
            length = lengths.pop(0) if mode else n
            part = coded[at : at + length]
            plane += decompress(part, min(frame, n - j * frame)) if mode else part
            at += length
        planes.append(plane)
    assert at == len(coded)
    rotated = [sum(planes[k][i] << 8 * k for k in range(w)) for i in range(n)]
    words = b"".join((x >> 1 | (x & 1) << 8 * w - 1).to_bytes(w, "little") for x in rotated)
    return edges[:lead] + words + edges[lead:]


def decode(coded: bytes, raw_length: int) -> bytes:
    return ways.decode(PLANES, coded, raw_length, SCRATCH)


@given(st.binary(min_size=7, max_size=400), widths, st.lists(st.integers(0, 1), min_size=4, max_size=4), st.sampled_from([1, 3, -5]))
def test_any_bytes_come_back_from_any_writer(raw: bytes, shape: tuple[int, int], modes: list[int], level: int) -> None:
    w, lead = shape
    assert decode(write(raw, w, lead, modes[:w], level), len(raw)) == raw


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=3), st.integers(50, 900), widths)
def test_what_is_coded_comes_back_to_any_reader(few: list[bytes], times: int, shape: tuple[int, int]) -> None:
    """Pieces in a fixed disorder: planes of few symbols, which shrink, beside bytes before and after whole elements."""
    raw = b"".join(few[i * i % 7 % len(few)] for i in range(times))
    coded = ways.encode(PLANES, raw, Hint(*shape), SCRATCH)
    if coded is not None:
        assert len(coded) < len(raw)
        assert read(coded) == raw
        assert decode(bytes(coded), len(raw)) == raw


@settings(deadline=None, max_examples=5)
@given(widths, st.integers(0, 1000), st.sampled_from([FRAME, FRAME + 1, 200_000]))
def test_several_frames(shape: tuple[int, int], seed: int, frame: int) -> None:
    w, lead = shape
    raw = bytes(Random(seed).choices(range(20), k=300_000 * w + 5))
    assert decode(write(raw, w, lead, [1, 0, 1, 1][:w], frame=frame), len(raw)) == raw
    coded = ways.encode(PLANES, raw, Hint(w, lead), SCRATCH)
    assert coded is not None
    assert read(coded) == raw


@given(st.binary(max_size=200), st.integers(1, 5000))
def test_any_bytes_are_refused_or_decoded(coded: bytes, raw_length: int) -> None:
    try:
        decode(coded, raw_length)
    except Malformed:
        return


@given(
    st.integers(0, 255),
    st.sampled_from([2, 4]),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(0, 2**32 - 1) | st.integers(0, 64),
    st.sampled_from([0, 1, FRAME - 1, FRAME, 4_194_304, 4_194_305, 2**32 - 1]),
    st.binary(max_size=120),
)
def test_any_head_is_refused_or_true(layout: int, w: int, lead: int, tail: int, n: int, frame: int, rest: bytes) -> None:
    """The parser gives places inside the bytes or refuses; it never trusts a count."""
    coded = struct.pack("<BBBBIII", layout & 1, w, lead, tail, n, frame, 0) + rest
    raw_length = lead + n * w + tail
    try:
        found = parse(memoryview(coded), raw_length)
    except Malformed:
        return
    edges, offsets, total = found.place()
    assert total == len(coded)
    assert all(edges <= start <= total for plane in offsets for start in plane)


@given(st.binary(min_size=40, max_size=200), widths, st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_decoded(raw: bytes, shape: tuple[int, int], place: int, mask: int) -> None:
    w, lead = shape
    coded = bytearray(write(raw, w, lead, [0, 1, 1, 1][:w]))
    coded[place % len(coded)] ^= mask
    try:
        decode(bytes(coded), len(raw))
    except Malformed:
        return
