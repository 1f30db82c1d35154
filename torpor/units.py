"""Sizes as people read them: powers of 1000, as bills and links have them."""

from __future__ import annotations


def size(count: float) -> str:
    """`4.20 GB`: three digits."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        count /= 1000
        if count < 999.5 or unit == "PB":
            break
    return f"{count:.{max(0, 3 - len(str(int(count))))}f} {unit}"
