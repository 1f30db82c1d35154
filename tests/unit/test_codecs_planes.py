from __future__ import annotations

import struct

import pytest
from backports import zstd as lib

from tests.unit import ways
from torpor.codecs.base import Buffer, Hint, Scratch
from torpor.codecs.planes import FRAME, Planes
from torpor.codecs.planes_layout import ALIGN, Layout, parse
from torpor.errors import Malformed
from torpor.format.version import CHUNK_MAX
from torpor.testing import samples

CODEC = Planes()


def encode(raw: Buffer, hint: Hint) -> bytes:
    coded = ways.encode(CODEC, raw, hint)
    assert coded is not None
    return coded


def decode(coded: Buffer, raw_length: int) -> bytes:
    return ways.decode(CODEC, coded, raw_length)


@pytest.mark.parametrize(("dtype", "width", "least"), [("bf16", 2, 1.49), ("fp16", 2, 1.15), ("fp32", 4, 1.15)])
def test_weights_shrink_as_promised(dtype: str, width: int, least: float) -> None:
    raw = samples.weights(dtype)
    assert len(raw) / len(encode(raw, Hint(width))) >= least


@pytest.mark.parametrize("lead", [0, 1, 2, 3])
def test_a_phase_costs_nothing(lead: int) -> None:
    raw = samples.weights("fp32", 1 << 20)
    assert abs(len(encode(raw, Hint(4))) - len(encode(b"xyz"[:lead] + raw, Hint(4, lead)))) < 32


def test_each_frame_is_a_plain_zstd_frame_of_its_part_of_the_plane() -> None:
    raw = samples.weights("bf16", CHUNK_MAX - 6)
    coded = encode(raw, Hint(2))
    layout = parse(memoryview(coded), len(raw))
    assert [plane is None for plane in layout.planes] == [True, False]
    assert layout.frame == FRAME
    frames = layout.planes[1]
    assert frames is not None
    assert len(frames) == -(-layout.elements // FRAME)
    _, (_, starts), _ = layout.place()
    parts = []
    for number, (start, length) in enumerate(zip(starts, frames, strict=True)):
        frame = coded[start : start + length]
        assert start % ALIGN == 0
        size = min(FRAME, layout.elements - number * FRAME)
        assert lib.get_frame_info(frame).decompressed_size == size
        assert lib.get_frame_size(frame) == length
        parts.append(lib.decompress(frame))
    # The plane of a bf16's exponents: 7 of its bits in the upper byte, one in the lower.
    exponents = bytes((high << 1 | low >> 7) & 0xFF for low, high in zip(raw[::2], raw[1::2], strict=True))
    assert b"".join(parts) == exponents


def test_planes_of_noise_are_stored_and_noise_is_given_up() -> None:
    raw = samples.weights("fp32", 1 << 20)
    layout = parse(memoryview(encode(raw, Hint(4))), len(raw))
    assert [plane is None for plane in layout.planes] == [True, True, True, False]
    for width in (2, 4):
        assert CODEC.encode(samples.noise(1 << 20), Scratch(), Hint(width)) is None


def test_floats_that_were_bf16_once_lose_their_zeros() -> None:
    narrow = samples.weights("bf16", 1 << 20)
    raw = b"".join(b"\0\0" + narrow[at : at + 2] for at in range(0, len(narrow), 2))
    coded = encode(raw, Hint(4))
    assert len(raw) / len(coded) > 2.9
    assert decode(coded, len(raw)) == raw


def test_what_looks_better_in_the_sample_than_it_is_is_stored_after_all() -> None:
    """The sample sees pieces at fixed places; noise everywhere else must not be kept as frames."""
    raw = bytearray(samples.noise(1 << 20))
    step = ((1 << 20) - 1024) // 7 // 16 * 16
    for piece in range(8):
        raw[piece * step : piece * step + 1024] = bytes(1024)
    assert ways.encode(CODEC, raw, Hint(2)) is None


def test_too_short_for_one_element() -> None:
    assert CODEC.encode(b"a", Scratch(), Hint(2)) is None
    assert CODEC.encode(b"abcdef", Scratch(), Hint(4, 3)) is None


def head(**change: int) -> bytes:
    """The head of 20 elements of 2 bytes, both planes stored, with changes."""
    fields = {"layout": 1, "width": 2, "lead": 1, "tail": 0, "n": 20, "frame": FRAME, "zero": 0} | change
    return struct.pack("<BBBBIII", *fields.values())


BODY = bytes([0, 0]) + b"L" + bytes(13) + bytes(range(20)) + bytes(12) + bytes(range(20))


def test_a_chunk_written_by_hand() -> None:
    assert decode(head() + BODY, 41) == b"L" + b"".join(((k << 8 | k) >> 1 | (k & 1) << 15).to_bytes(2, "little") for k in range(20))


@pytest.mark.parametrize(
    "change",
    [
        {"layout": 0},
        {"layout": 2},
        {"width": 1},
        {"width": 3},
        {"width": 8},
        {"lead": 2},
        {"tail": 2},
        {"tail": 1},
        {"lead": 0},
        {"n": 0},
        {"n": 19},
        {"n": 21},
        {"n": 2**32 - 1},
        {"frame": 131_071},
        {"frame": 4_194_305},
        {"zero": 1},
    ],
    ids=str,
)
def test_false_heads_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(Malformed):
        decode(head(**change) + BODY, 41)


@pytest.mark.parametrize(
    "body",
    [
        bytes([0, 2]) + BODY[2:],
        bytes([255, 0]) + BODY[2:],
        BODY[:3] + b"\1" + BODY[4:],  # a gap that is not zero
        BODY[:36] + b"\1" + BODY[37:],
        BODY[:-1],
        BODY + b"\0",
        BODY + bytes(12),
    ],
)
def test_false_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode(head() + body, 41)


def framed(frame: bytes) -> bytes:
    """20 elements of 2 bytes: plane 0 stored, plane 1 this one frame."""
    coded = head(lead=0) + bytes([0, 1]) + struct.pack("<I", len(frame)) + bytes(10) + bytes(20) + bytes(12) + frame
    layout = Layout(2, 0, 0, 20, FRAME, (None, (len(frame),)))
    assert layout.place()[2] == len(coded)
    assert coded.startswith(layout.head())
    return coded


def test_false_frames_are_refused() -> None:
    plane = bytes(range(20))
    assert decode(framed(lib.compress(plane)), 40) == b"".join((k << 7).to_bytes(2, "little") for k in plane)
    false = [
        b"",
        b"not a frame",
        lib.compress(plane[:19]),
        lib.compress(plane + b"x"),
        lib.compress(bytes(100_000_000)),
        lib.compress(plane) + b"\0",
        lib.compress(plane)[:-1],
        lib.compress(plane) + lib.compress(b""),
        lib.compress(plane, options={lib.CompressionParameter.content_size_flag: 0}),
    ]
    for frame in false:
        with pytest.raises(Malformed):
            decode(framed(frame), 40)


def test_a_table_that_points_beyond_the_end_is_refused() -> None:
    coded = bytearray(framed(lib.compress(bytes(20))))
    for length in (0, 1, 2**31, 2**32 - 1):
        struct.pack_into("<I", coded, 18, length)
        with pytest.raises(Malformed):
            decode(coded, 40)


def test_every_frame_size_of_the_format_is_read() -> None:
    raw = samples.weights("bf16", 1_200_000)
    coded = encode(raw, Hint(2))
    plane = bytes((high << 1 | low >> 7) & 0xFF for low, high in zip(raw[::2], raw[1::2], strict=True))
    stored = coded[parse(memoryview(coded), len(raw)).place()[1][0][0] :][: len(plane)]
    for size in (131_072, 131_073, 4_194_304):
        frames = [lib.compress(plane[at : at + size], 3) for at in range(0, len(plane), size)]
        layout = Layout(2, 0, 0, len(plane), size, (None, tuple(map(len, frames))))
        _, (first, second), total = layout.place()
        out = bytearray(total)
        out[: len(layout.head())] = layout.head()
        for start, part in zip(first + second, [stored, *frames], strict=True):
            out[start : start + len(part)] = part
        assert decode(out, len(raw)) == raw
