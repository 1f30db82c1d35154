"""A sampled proof reads back at least what nobody is known to have decoded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engine.lab import write
from tests.engine.test_destroy import Yard, take, yard
from torpor.control import receipts
from torpor.events import ignore
from torpor.storage.base import PACKS


def reused(there: Yard) -> set[str]:
    """Packs of the first snapshot, which the next one names again."""
    first = there.taken.snapshot.id
    return {name[len(PACKS) :] for name in there.lab.objects(f"{PACKS}{first}/") if "index-" not in name}


@pytest.mark.parametrize("proven", [False, True], ids=["by nobody", "by a full receipt"])
def test_packs_of_a_snapshot_that_was_not_compared(tmp_path: Path, proven: bool) -> None:
    there = yard(tmp_path, compare=False)
    for number in range(6):
        write(there.machine.workspace / f"large-{number}", os.urandom(33 << 20))
    there.taken = take(there.lab, there.machine, compare=False)
    first = reused(there)
    assert len(first) > receipts.SAMPLE_MIN + 1
    if proven:
        assert not receipts.verify(there.lab.repository, there.taken.snapshot.id, "full", ignore).damage
    there.clock.advance(5)
    write(there.machine.workspace / "new", os.urandom(3 << 20))
    there.taken = take(there.lab, there.machine, compare=True)
    read = set(there.prove(depth="sample").read_packs)
    assert (first <= read) is not proven
