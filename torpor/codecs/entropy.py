"""How far bytes would shrink, told from a sample: order-0 entropies, of bytes and of the planes of floats."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
    """Bits that a byte carries if each is coded by itself, 0 … 8: for the bytes at each place of a period."""
    import numpy as np

    return _bits(np.frombuffer(data, np.uint8, len(data) // period * period).reshape(-1, period))


def plane_bits(data: bytes, width: int, lead: int) -> list[float]:
    """Bits that a byte of each plane carries (plane 0 first), for elements of `width` bytes that begin after `lead` bytes."""
    import numpy as np

    word = np.dtype(f"<u{width}")
    elements = np.frombuffer(data, word, (len(data) - lead) // width, lead)
    rotated = ((elements << 1) | (elements >> (8 * width - 1))).astype(word, copy=False)
    return _bits(rotated.view(np.uint8).reshape(-1, width))


def _bits(rows: NDArray[np.uint8]) -> list[float]:
    """Entropy of each column, with Miller and Madow's correction: a small sample looks more ordered than the whole."""
    import numpy as np

    width = rows.shape[1]
    tagged = rows + np.arange(0, 256 * width, 256, dtype=np.uint16)
    counts = np.bincount(tagged.ravel(), minlength=256 * width).reshape(width, 256)
    total = max(len(rows), 1)
    bits = np.log2(total) - (counts * np.log2(np.maximum(counts, 1))).sum(axis=1) / total
    seen = np.count_nonzero(counts, axis=1)
    corrected = np.clip(bits + np.maximum(seen - 1, 0) / (2 * np.log(2) * total), 0.0, 8.0)
    return [float(b) for b in corrected]


def huffman_part(bits: float) -> float:
    """The part of its size that Huffman coding leaves of bytes which carry `bits` each: no symbol takes less than one bit,
    and bytes that are all the same take a few a block."""
    return max(bits, 1.0) / 8 if bits else 0.001


def planes_part(bits: list[float]) -> float:
    """The part of its size that the codec `planes` leaves, its planes carrying `bits` a byte."""
    parts = [huffman_part(b) for b in bits]
    return sum(part if part < KEEP else 1.0 for part in parts) / len(parts)
