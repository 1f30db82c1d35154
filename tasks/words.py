"""Amounts as people read them."""

from __future__ import annotations

from torpor.units import size


def amount(count: int, unit: str) -> str:
    """Bytes or files: `1.50 GB`, `12,345 files`."""
    return size(count) if unit == "bytes" else f"{count:,} {unit if count != 1 else unit.removesuffix('s')}"


def rate(count: int, seconds: float, unit: str) -> str:
    """`240 MB/s`; empty for times too short to divide by."""
    return f"{amount(int(count / seconds), unit)}/s" if seconds >= 0.05 and count else ""
