"""The compiled call of a chunk: the same bytes and the same refusals as Python's zstd with numpy, and nothing left behind."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from functools import cache
from random import Random

import numpy as np
import pytest
from backports import zstd as lib
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit import ways
from torpor.codecs.base import Hint, Scratch
from torpor.codecs.choose import Chooser
from torpor.codecs.entropy import byte_bits, plane_bits
from torpor.codecs.planes import FRAME
from torpor.codecs.table import by_id
from torpor.codecs.zstd import HUFFMAN
from torpor.errors import Malformed
from torpor.format.version import CHUNK_MAX, CODEC_PLANES, CODEC_ZSTD
from torpor.native import coding, kernels
from torpor.testing import samples

PLANES, ZSTD = by_id(CODEC_PLANES), by_id(CODEC_ZSTD)
SCRATCH = Scratch()

Mutation = Callable[[bytearray, Random], bytes]
MUTATIONS: dict[str, Mutation] = {
    "whole": lambda coded, dice: bytes(coded),
    "cut off": lambda coded, dice: bytes(coded[: dice.randrange(len(coded))]),
    "over-long": lambda coded, dice: bytes(coded + dice.randbytes(dice.randint(1, 40))),
    "twice": lambda coded, dice: bytes(coded + coded),
    "a bit": lambda coded, dice: _flip(coded, dice.randrange(len(coded)), 1 << dice.randrange(8)),
    "a bit of the head": lambda coded, dice: _flip(coded, dice.randrange(min(len(coded), 48)), 1 << dice.randrange(8)),
    "bytes": lambda coded, dice: bytes(coded[: (at := dice.randrange(len(coded)))] + dice.randbytes(4) + coded[at + 4 :]),
}


def _flip(coded: bytearray, place: int, mask: int) -> bytes:
    coded[place] ^= mask
    return bytes(coded)


def refuses_or_decodes(codec: int, coded: bytes, raw_length: int) -> None:
    try:
        ways.decode(by_id(codec), coded, raw_length, SCRATCH)
    except Malformed:
        return


@pytest.mark.parametrize("level", [0, 1, 3, 5, HUFFMAN])
def test_frames_are_pythons(level: int) -> None:
    for raw in (*samples.kinds().values(), bytes(CHUNK_MAX), bytes(1), b"ab" * 70_000):
        for size in {1, 10, 1000, 131_073, 700_000, len(raw)}:
            ways.encode(ZSTD, raw[:size], Hint(level=level), SCRATCH)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([2, 4]),
    st.lists(st.integers(0, 9), min_size=4, max_size=4),
    st.integers(0, 3),
    st.integers(1, 3 * FRAME),
    st.integers(),
)
def test_planes_are_pythons(width: int, noise: list[int], lead: int, count: int, seed: int) -> None:
    """Each byte of the elements carries up to eight bits; 9: it looks better in the sample than it is."""
    dice = np.random.default_rng(abs(seed))
    bytes_ = np.zeros((count, width), np.uint8)
    for column, bits in enumerate(noise[:width]):
        bytes_[:, column] = dice.integers(0, 1 << min(bits, 8), count)
        if bits == 9:
            bytes_[: count // 3, column] = 0
            bytes_[-8:, column] = 0
    raw = dice.bytes(lead % width) + bytes_.tobytes() + dice.bytes(seed % width)
    coded = ways.encode(PLANES, raw, Hint(width, lead % width), SCRATCH)
    if coded is not None:
        assert ways.decode(PLANES, coded, len(raw), SCRATCH) == raw


@pytest.mark.parametrize("stretch", [0.9, 0.97, 1.0])
def test_a_plane_that_disappoints_is_stored(stretch: float) -> None:
    """The sample's places are zeros, the rest noise; another plane shrinks in any case, so that the head's length changes too."""
    count = 900_001
    bytes_ = np.frombuffer(samples.noise(4 * count), np.uint8).reshape(count, 4).copy()
    bytes_[:, 3] &= 7
    size, step = 512 * 4, (4 * count - 512 * 4) // 7 // 16 * 16
    for piece in range(8):
        bytes_[piece * step // 4 : (piece * step + size) // 4, 1:3] = 0
    bytes_[int(count * stretch) :, 1] = 0
    coded = ways.encode(PLANES, bytes_.tobytes(), Hint(4))
    assert coded is not None
    assert list(coded[16:20])[2:] == [0, 1]
    assert ways.decode(PLANES, coded, 4 * count) == bytes_.tobytes()


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(sorted(MUTATIONS)), st.sampled_from(["bf16", "fp32", "text"]), st.sampled_from([300, 20_000, 1_200_001]), st.integers()
)
def test_damaged_planes_are_refused_alike(mutation: str, kind: str, size: int, seed: int) -> None:
    dice = Random(seed)
    coded = _coded(CODEC_PLANES, kind, size)
    if coded is not None:
        refuses_or_decodes(CODEC_PLANES, MUTATIONS[mutation](bytearray(coded), dice), size)


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(sorted(MUTATIONS)), st.sampled_from(["bf16", "text", "zeros"]), st.sampled_from([1, 300, 20_000, 400_000]),
    st.sampled_from([{}, {lib.CompressionParameter.checksum_flag: 1}, {100: HUFFMAN, 1002: 1}, {100: 12}]), st.integers(),
)  # fmt: skip
def test_damaged_frames_are_refused_alike(mutation: str, kind: str, size: int, options: dict[int, int], seed: int) -> None:
    raw = bytes(size) if kind == "zeros" else samples.kinds()[kind][:size]
    coded = bytearray(lib.compress(raw, options=options))
    refuses_or_decodes(CODEC_ZSTD, MUTATIONS[mutation](coded, Random(seed)), size)


@given(st.binary(max_size=60), st.integers(1, 5000), st.booleans())
def test_any_bytes_are_refused_alike(data: bytes, size: int, magic: bool) -> None:
    refuses_or_decodes(CODEC_ZSTD, b"\x28\xb5\x2f\xfd" * magic + data, size)


@cache
def _coded(codec: int, kind: str, size: int) -> bytes | None:
    found = by_id(codec).encode(samples.kinds()[kind][:size], Scratch(), Hint(4 if kind == "fp32" else 2))
    return None if found is None else bytes(found)


def test_what_the_compiled_call_refuses_python_decides() -> None:
    """A window beyond the format's, in a frame so short that Python's zstd decodes it in one piece without looking."""
    native = coding.native()
    assert native is not None
    raw = b"a" * 1000
    frame = b"\x28\xb5\x2f\xfd" + bytes([0x80, 14 << 3]) + struct.pack("<I", 1000) + (1000 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"a"
    out = bytearray(1000)
    assert not coding.decode_frame(native, coding.Contexts(native), frame, memoryview(out))
    assert ways.decode(ZSTD, frame, 1000) == raw


def test_places_outside_are_refused_in_c_too() -> None:
    native = coding.native()
    assert native is not None
    contexts, out = coding.Contexts(native), memoryview(bytearray(2000))
    frame = lib.compress(bytes(1000))
    coded = bytes(1000) + frame
    room = memoryview(bytearray(1000))

    def decodes(planes: list[list[int] | None], offsets: list[list[int]]) -> bool:
        return coding.decode_planes(native, contexts, coded, planes, offsets, 131_072, room, out)

    assert decodes([None, [len(frame)]], [[0], [1000]])
    huge = 2**64 - 1
    for places in ([[len(frame) + 1], [1000]], [[0], [1001]], [[huge], [1000]], [[0], [huge]]):
        assert not decodes([None, [len(frame)]], places)
    assert not decodes([None, [huge]], [[0], [1000]])
    with pytest.raises(ValueError, match="another"):
        decodes([None, [len(frame)] * 2], [[0], [1000] * 2])
    with pytest.raises(ValueError, match="scratch"):
        coding.decode_planes(native, contexts, coded, [None, [len(frame)]], [[0], [1000]], 131_072, room[:-1], out)


def test_without_zstds_functions_python_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    library = kernels.library()
    assert library is not None
    for module in ("_ctypes", "sys", "no.such.module"):
        monkeypatch.setattr(coding, "_MODULE", module)
        assert coding._native.__wrapped__(library) is None


def test_contexts_go_with_their_scratch() -> None:
    raw = samples.weights("bf16", 300_000)

    def use(times: int) -> int:
        for _ in range(times):
            scratch, out = Scratch(), bytearray(len(raw))
            coded = PLANES.encode(raw, scratch, Hint(2))
            assert coded is not None
            PLANES.decode(coded, len(raw), memoryview(out), scratch)
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = use(20)
    assert use(200) - before < 20 * 1024 * 1024  # one context to encode takes hundreds of KiB


def _reference(rows: np.ndarray) -> list[float]:
    width = rows.shape[1]
    counts = np.array([np.bincount(rows[:, place], minlength=256) for place in range(width)])
    total = max(len(rows), 1)
    bits = np.log2(total) - (counts * np.log2(np.maximum(counts, 1))).sum(axis=1) / total
    seen = np.count_nonzero(counts, axis=1)
    return [float(b) for b in np.clip(bits + np.maximum(seen - 1, 0) / (2 * np.log(2) * total), 0.0, 8.0)]


@settings(deadline=None)
@given(st.sampled_from([1, 2, 4]), st.integers(0, 3), st.integers(0, 3000), st.integers(1, 256), st.integers(0, 99))
def test_entropies_are_those_of_the_formula(width: int, lead: int, size: int, symbols: int, seed: int) -> None:
    data = np.random.default_rng(seed).integers(0, symbols, size + lead + 1).astype(np.uint8).tobytes()
    whole = np.frombuffer(data, np.uint8, len(data) // width * width).reshape(-1, width)
    found = [byte_bits(data, width)]
    assert found[0] == pytest.approx(_reference(whole), abs=1e-9)
    if width > 1:
        words = np.frombuffer(data[lead:], f"<u{width}", (len(data) - lead) // width)
        rotated = ((words << 1) | (words >> (8 * width - 1))).astype(words.dtype)
        found.append(plane_bits(data, width, lead))
        assert found[1] == pytest.approx(_reference(rotated.view(np.uint8).reshape(-1, width)), abs=1e-9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "library", lambda: None)
        assert [byte_bits(data, width), *([plane_bits(data, width, lead)] if width > 1 else [])] == found


def test_choices_are_the_same_without() -> None:
    for raw in samples.kinds().values():
        for start in range(0, 64, 7):
            chosen = Chooser().choose(raw[start : start + 200_003])
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(kernels, "library", lambda: None)
                assert Chooser().choose(raw[start : start + 200_003]) == chosen
