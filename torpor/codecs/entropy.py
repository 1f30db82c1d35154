"""How far bytes would shrink, told from a sample: order-0 entropies, of bytes and of the planes of floats."""

from __future__ import annotations

from functools import cache
from math import log, log2

from torpor.native import coding

KEEP = 0.98  # a plane is worth coding if it shrinks at least to this part


def sample(raw: memoryview, pieces: int, size: int) -> bytes:
    """`pieces` stretches of `size` bytes spread evenly over `raw`, joined; all of it if it is short.

    Each begins at a multiple of 16 and `size` is one, so that elements of 2 or 4 bytes keep their phase.
    """
    if len(raw) <= pieces * size:
        return bytes(raw)
    step = (len(raw) - size) // (pieces - 1) // 16 * 16
    return b"".join([raw[i * step : i * step + size] for i in range(pieces)])


def byte_bits(data: bytes, period: int = 1) -> list[float]:
    """Bits that a byte carries if each is coded by itself, 0 … 8: for the bytes at each place of a period (1, 2 or 4)."""
    return _bits(data, period, 0, rotate=False)


def plane_bits(data: bytes, width: int, lead: int) -> list[float]:
    """Bits that a byte of each plane carries (plane 0 first), for elements of `width` bytes that begin after `lead` bytes."""
    return _bits(data, width, lead, rotate=True)


def _bits(data: bytes, width: int, lead: int, rotate: bool) -> list[float]:
    """Entropy at each place, with Miller and Madow's correction: a small sample looks more ordered than the whole."""
    rows = coding.counts(data, width, lead, rotate)
    total = max((len(data) - lead) // width, 1)
    return [_entropy(row, total) for row in (_counts(data, width, lead, rotate) if rows is None else rows)]


def _entropy(counts: list[int], total: int) -> float:
    symbols = len(counts) - counts.count(0)
    if symbols < 2:
        return 0.0
    bits = log2(total) - sum(map(_term, counts)) / total
    return min(max(bits + (symbols - 1) / (2 * log(2) * total), 0.0), 8.0)


@cache  # a sample has few elements, so few numbers
def _term(count: int) -> float:
    return count * log2(count) if count else 0.0


def _counts(data: bytes, width: int, lead: int, rotate: bool) -> list[list[int]]:
    """`coding.counts` where nothing is compiled."""
    import numpy as np

    word = np.dtype(f"<u{width}")
    elements = np.frombuffer(data[lead:], word, max(len(data) - lead, 0) // width)
    if rotate:
        elements = ((elements << 1) | (elements >> (8 * width - 1))).astype(word, copy=False)
    tagged = elements.view(np.uint8).reshape(-1, width) + np.arange(0, 256 * width, 256, dtype=np.uint16)
    rows: list[list[int]] = np.bincount(tagged.ravel(), minlength=256 * width).reshape(width, 256).tolist()
    return rows


def huffman_part(bits: float) -> float:
    """The part of its size that Huffman coding leaves of bytes which carry `bits` each: no symbol takes less than one bit,
    and bytes that are all the same take a few a block."""
    return max(bits, 1.0) / 8 if bits else 0.001


def planes_part(bits: list[float]) -> float:
    """The part of its size that the codec `planes` leaves, its planes carrying `bits` a byte."""
    parts = [huffman_part(b) for b in bits]
    return sum(part if part < KEEP else 1.0 for part in parts) / len(parts)
