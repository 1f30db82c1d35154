"""Which packs are written anew."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from torpor.plan import consolidate

PACKS = st.lists(st.integers(1, 1000).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size))), max_size=40)


@settings(deadline=None)
@given(PACKS, st.floats(0, 0.5), st.integers(0, 500))
def test_only_thin_ones_within_the_budget_thinnest_first(packs: list[tuple[int, int]], part: float, least: int) -> None:
    sizes, live = [size for size, _ in packs], [used for _, used in packs]
    chosen = consolidate.packs(sizes, live, part, least)
    budget = max(least, int(sum(live) * part))
    assert all(live[number] < sizes[number] * consolidate.THIN for number in chosen)
    assert sum(live[number] for number in chosen) <= budget
    left = budget - sum(live[number] for number in chosen)
    for number in set(range(len(packs))) - chosen:
        assert live[number] >= sizes[number] * consolidate.THIN or live[number] > left


def test_the_usual_budget() -> None:
    """Of 64 packs of 32 MiB, half of them thin by a hair: 5 % of what is live."""
    mib = 1 << 20
    live = [32 * mib if number % 2 else 15 * mib for number in range(64)]
    chosen = consolidate.packs([32 * mib] * 64, live)
    assert sum(live[number] for number in chosen) == 75 * mib  # of 75.2 MiB
    assert consolidate.packs([32 * mib] * 2, [32 * mib, 15 * mib]) == {1}
    assert consolidate.packs([], []) == frozenset()
