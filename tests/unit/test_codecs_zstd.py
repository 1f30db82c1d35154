from __future__ import annotations

import struct
import tracemalloc

import pytest
from backports import zstd as lib

from tests.unit import ways
from torpor.codecs import zstd
from torpor.codecs.base import Buffer, Hint, Scratch
from torpor.codecs.zstd import HUFFMAN, Zstd, declared_length, options
from torpor.errors import Malformed
from torpor.format.version import CHUNK_MAX
from torpor.testing import samples

CODEC = Zstd()


def decode(coded: Buffer, raw_length: int) -> bytes:
    return ways.decode(CODEC, coded, raw_length)


@pytest.mark.parametrize("level", [0, 1, 3, 19, HUFFMAN])
def test_one_plain_frame_with_its_content_size(level: int) -> None:
    raw = samples.text(300_000)
    coded = ways.encode(CODEC, raw, Hint(level=level))
    assert coded is not None
    assert lib.get_frame_info(coded).decompressed_size == len(raw)
    assert lib.get_frame_size(coded) == len(coded)
    assert lib.decompress(coded) == raw


def test_the_window_stays_within_the_format() -> None:
    """A chunk is shorter than 8 MiB, and so is every window, at any level."""
    raw = samples.text(CHUNK_MAX // 8) * 8  # what repeats is looked through in a tenth of the time
    coded = CODEC.encode(raw, Scratch(), Hint(level=19))
    assert coded is not None
    assert lib.decompress(coded, options={lib.DecompressionParameter.window_log_max: 23}) == raw
    with pytest.raises(ValueError, match="4 MiB"):
        CODEC.encode(bytes(CHUNK_MAX + 1), Scratch())


def test_noise_is_given_up() -> None:
    assert CODEC.encode(samples.noise(100_000), Scratch()) is None


def test_huffman_codes_what_does_not_repeat() -> None:
    raw = samples.noise(300_000).translate(bytes(i & 15 for i in range(256)))
    coded = ways.encode(CODEC, raw, Hint(level=HUFFMAN))
    assert coded is not None
    assert len(coded) < 0.51 * len(raw)
    assert dict(options(HUFFMAN)) == {100: HUFFMAN, 1002: 1}


def test_the_self_test_finds_a_library_that_does_not_know_how() -> None:
    assert zstd._codes({100: HUFFMAN, 1002: 1})
    assert not zstd._codes({100: HUFFMAN})  # accepted, and nothing shrinks
    assert not zstd._codes({100: 1, 987_654: 1})  # no such parameter


def test_without_it_level_1_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zstd, "_LITERALS", 987_654)
    options.cache_clear()
    assert dict(options(HUFFMAN)) == {100: 1}
    monkeypatch.undo()
    options.cache_clear()
    assert dict(options(HUFFMAN)) == {100: HUFFMAN, 1002: 1}


def test_a_frame_without_content_size_is_refused() -> None:
    frame = lib.compress(b"a" * 1000, options={lib.CompressionParameter.content_size_flag: 0})
    assert declared_length(frame) is None
    with pytest.raises(Malformed):
        decode(frame, 1000)


def test_a_bomb_stops_at_the_raw_length() -> None:
    bomb = lib.compress(bytes(256 * 1024 * 1024), 1)
    lying = bomb[:6] + struct.pack("<I", CHUNK_MAX) + bomb[10:]  # behind descriptor and window
    assert declared_length(lying) == CHUNK_MAX
    out = memoryview(bytearray(CHUNK_MAX))
    tracemalloc.start()
    try:
        for coded in (bomb, lying):
            for length in (1, 1000, 300_000, CHUNK_MAX):
                with pytest.raises(Malformed):
                    CODEC.decode(coded, length, out[:length], Scratch())
        assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("claim", [999, 1000, 1001, 70_000])
def test_a_frame_that_lies_about_its_size_is_refused(claim: int) -> None:
    """An honest frame's blocks behind a head that says `claim`: a single segment with a 4-byte content size."""
    body = lib.compress(b"abcd" * 25_000, 1)  # 100,000 bytes: head of magic, descriptor and 4 bytes of size
    assert body[4] == 0xA0
    lying = body[:5] + struct.pack("<I", claim) + body[9:]
    assert declared_length(lying) == claim
    with pytest.raises(Malformed):
        decode(lying, claim)


def test_a_huge_window_is_refused() -> None:
    """512 MiB of window, announced in a head of ten bytes, are never allocated."""
    rle = b"".join((100_000 << 3 | 1 << 1 | last).to_bytes(3, "little") + b"a" for last in (0, 0, 1))
    for exponent in (10, 13, 14, 19, 31):
        head = b"\x28\xb5\x2f\xfd" + bytes([0x80, exponent << 3]) + struct.pack("<I", 300_000)
        assert declared_length(head + rle) in (300_000, None)
        if exponent <= 13:
            assert decode(head + rle, 300_000) == b"a" * 300_000
        else:
            with pytest.raises(Malformed):
                decode(head + rle, 300_000)


@pytest.mark.parametrize("more", [lib.compress(b""), lib.compress(b"x"), b"\x50\x2a\x4d\x18\x04\0\0\0abcd", b"\0"])
def test_two_frames_are_refused(more: bytes) -> None:
    frame = lib.compress(b"a" * 1000, 1)
    assert decode(frame, 1000) == b"a" * 1000
    for coded in (frame + more, more + frame):
        with pytest.raises(Malformed):
            decode(coded, 1000)


def test_a_frame_with_a_dictionary_is_refused() -> None:
    words = [samples.text(2000, seed) for seed in range(60)]
    learned = lib.train_dict(words, 4000)
    frame = lib.compress(words[0], zstd_dict=learned)
    assert declared_length(frame) == 2000
    with pytest.raises(Malformed):
        decode(frame, 2000)
