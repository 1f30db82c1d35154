"""The compiled keyed BLAKE3 says of every piece what the module `blake3` does."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from torpor.native import kernels
from torpor.native.hashing import hash_pieces
from torpor.testing.samples import noise

KEY = bytes(range(32))
# A block is 64 bytes, a chunk 1,024; trees of every shape up to ten levels.
EDGES = [0, 1, 63, 64, 65, 127, 128, 1023, 1024, 1025, *range(2047, 12 * 1024, 1023), 32_768, 32_769, 65_537, 100_001, 1 << 20]
DATA = memoryview(bytearray(noise(3 << 20)))


def expected(offsets: Sequence[int], lengths: Sequence[int], key: bytes = KEY) -> list[bytes]:
    return [blake3(DATA[at : at + size], key=key).digest() for at, size in zip(offsets, lengths, strict=True)]


def compiled(offsets: Sequence[int], lengths: Sequence[int], key: bytes = KEY) -> list[bytes]:
    lib = kernels.library()
    assert lib is not None
    found = kernels.hash_many(lib, DATA, array("I", offsets), array("I", lengths), key)
    assert (found is None) == (b"avx2" not in Path("/proc/cpuinfo").read_bytes())  # without it the module does them all
    return found or hash_pieces(DATA, offsets, lengths, key)


@pytest.mark.parametrize("size", EDGES)
def test_every_length_alone(size: int) -> None:
    for offset in (0, 1, 31):
        assert compiled([offset], [size]) == expected([offset], [size])


def test_all_lengths_together() -> None:
    offsets = [7 * number for number in range(len(EDGES))]
    assert compiled(offsets, EDGES) == expected(offsets, EDGES)
    backwards = EDGES[::-1]
    assert compiled(offsets, backwards) == expected(offsets, backwards)
    lengths = list(range(3000))
    assert compiled([5] * 3000, lengths) == expected([5] * 3000, lengths)


@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.one_of(st.integers(0, 5000), st.integers(0, 1 << 18))), min_size=1, max_size=40))
def test_any_pieces(pieces: list[tuple[int, int]]) -> None:
    offsets, lengths = map(list, zip(*pieces, strict=True))
    key = os.urandom(32)
    assert compiled(offsets, lengths, key) == expected(offsets, lengths, key)
    assert hash_pieces(DATA, offsets, lengths, key) == expected(offsets, lengths, key)


def test_pieces_that_are_not_there() -> None:
    """Whoever asks compares: what is cut off has another id."""
    end = len(DATA)
    for offsets, lengths in (([0, end - 3], [5, 9]), ([end + 5, 1], [1, 1]), ([0, 0], [1 << 33, 1])):
        assert hash_pieces(DATA, offsets, lengths, KEY) == expected(offsets, lengths)
    assert hash_pieces(DATA[:0], [0, 0], [0, 0], KEY) == expected([0, 0], [0, 0])
    many = [1 << 32, *[1] * 140_000]  # on average they are short
    assert hash_pieces(DATA[:2000], [0] * len(many), many, KEY)[:2] == [
        blake3(DATA[:2000], key=KEY).digest(),
        blake3(DATA[:1], key=KEY).digest(),
    ]
    assert hash_pieces(DATA, [], [], KEY) == []
    assert hash_pieces(DATA.toreadonly(), [1, 2], [3, 4], KEY) == expected([1, 2], [3, 4])
