"""Amounts as people read them."""

from __future__ import annotations

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(amount: float) -> str:
    """Bytes in the unit that suits: `1.5 GiB`."""
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"


def amount(count: int, unit: str) -> str:
    """Bytes or files: `1.5 GiB`, `12,345 files`."""
    return size(count) if unit == "bytes" else f"{count:,} {unit if count != 1 else unit.removesuffix('s')}"


def rate(count: int, seconds: float, unit: str) -> str:
    """`240.1 MiB/s`; empty for times too short to divide by."""
    return f"{amount(int(count / seconds), unit)}/s" if seconds >= 0.05 and count else ""
