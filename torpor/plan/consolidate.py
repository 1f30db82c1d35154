"""Which old packs a snapshot writes anew: those of which little is left, so that a restore stays a few large reads."""

from __future__ import annotations

from collections.abc import Sequence

THIN = 0.5  # a pack with less than this part live is written anew …
PART = 0.05  # … up to this part of what the workspace takes in the store, a snapshot …
LEAST = 16 * 1024 * 1024  # … or so many bytes, which cost nothing to speak of


def packs(sizes: Sequence[int], live: Sequence[int], part: float = PART, least: int = LEAST) -> frozenset[int]:
    """Numbers of the packs to write anew, of packs with `sizes` bytes of which `live` are used.

    Whole packs, the thinnest first: half of a pack written anew costs as much and frees nothing.
    """
    budget = max(least, int(sum(live) * part))
    chosen: set[int] = set()
    for number in sorted(range(len(sizes)), key=lambda number: live[number] / sizes[number]):
        if live[number] >= sizes[number] * THIN:
            break
        if live[number] <= budget:
            budget -= live[number]
            chosen.add(number)
    return frozenset(chosen)
