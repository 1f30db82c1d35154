"""Files that are more than a section of the index, or memory, takes: they are saved or named, and everything else is saved."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.lab import Lab, same, write
from tests.engine.test_problems import named
from torpor.plan import cuts
from torpor.plan.cuts import coarsen, cut
from torpor.testing import nasty

MIB = 1 << 20
GIB = 1 << 30


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A workspace on tmpfs, which takes more attributes and larger files than others."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


def test_attributes_longer_than_a_section(lab: Lab, in_memory: Path, tmp_path: Path) -> None:
    value = os.urandom(60_000)
    for number in range(1200):
        path = write(in_memory / f"{number:04}", f"{number}")
        os.setxattr(path, "user.big", value)
    os.link(in_memory / "0000", in_memory / "zz")
    taken = lab.take(in_memory)
    assert not any(taken.result.problems.values())
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:  # ext4 has no room for them
        out = Path(other) / "out"
        lab.restore(out)
        same(in_memory, out)
    assert lab.take(in_memory).snapshot.manifest.entries == 1202


def test_targets_longer_than_a_section(lab: Lab, in_memory: Path) -> None:
    target = "t" * 4088
    for number in range(16_500):
        os.symlink(target, in_memory / f"{number:0248}")
    taken = lab.take(in_memory)
    assert taken.snapshot.manifest.links == 16_500
    assert lab.verify("latest", "sample").damage == {}


def test_a_file_larger_than_any_disk(lab: Lab, in_memory: Path, tmp_path: Path) -> None:
    write(in_memory / "kept", "kept")
    path = in_memory / "eib"
    nasty.sparse(os.fsencode(path), 1 << 62, (0, b"begin"))
    taken = lab.take(in_memory)
    assert named(taken, "unreadable") == [str(path)]
    lab.restore(tmp_path / "out")
    assert (tmp_path / "out/kept").read_text() == "kept"


def test_holes_cost_neither_time_nor_memory(lab: Lab, in_memory: Path, tmp_path: Path) -> None:
    path = in_memory / "holes"
    nasty.sparse(os.fsencode(path), 100 << 40, (0, b"begin"), (50 << 40, b"middle"))
    began = time.process_time()
    taken = lab.take(in_memory)
    assert time.process_time() - began < 10
    assert taken.snapshot.manifest.raw_bytes == 100 << 40
    assert taken.result.read_bytes == 8 * MIB
    lab.check_all()


def test_steps() -> None:
    """All of a file, in order; data in steps of 4 MiB, holes in longer ones; behind a header they begin anew."""
    for size, first, extents in [
        (0, 0, None),
        (9 * MIB, 0, None),
        (9 * MIB + 1, 5 * MIB + 3, None),
        (9 * MIB + 1, 5 * MIB + 3, []),
        (9 * MIB, 100 * MIB, [0, 1, 9 * MIB - 1, 1]),
        (5 * GIB + 7, 0, []),
        (5 * GIB + 7, 13, [3 * GIB - 1, 2]),
        (20 * MIB, 0, [8 * MIB, 4 * MIB]),
    ]:
        plan = cut(size, first, None if extents is None else flat(extents))
        steps = [plan[number] for number in range(len(plan))]
        assert [offset for offset, _, _ in steps] == [sum(length for _, length, _ in steps[:number]) for number in range(len(steps))]
        assert sum(length for _, length, _ in steps) == size
        assert not 0 < first < size or first in [offset for offset, _, _ in steps]
        for offset, length, hole in steps:
            touched = extents is None or any(
                start < offset + length and offset < start + part for start, part in zip(extents[::2], extents[1::2], strict=True)
            )
            assert hole == (not touched)
            assert 0 < length <= (GIB if hole else 4 * MIB)
    assert len(cut(5 * GIB, 0, flat([]))) == 5


def flat(pairs: list[int]) -> array[int]:
    return array("Q", pairs)


def test_extents_are_joined_over_the_smallest_holes() -> None:
    fine = flat([0, 4096, 8192, 4096, GIB, 4096, GIB + 8192, 4096, 5 * GIB, 1])
    assert coarsen(fine, 5) == fine
    assert [*coarsen(fine, 3)] == [0, 12_288, GIB, 12_288, 5 * GIB, 1]
    assert [*coarsen(fine, 1)] == [0, 5 * GIB + 1]


@pytest.mark.parametrize("size", [300_000, 5 * MIB])
def test_a_file_of_more_extents_than_an_entry_holds(
    lab: Lab, root: Path, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuts, "EXTENTS_MAX", 3)
    path = root / "file"
    nasty.sparse(os.fsencode(path), size, *((at, os.urandom(4096)) for at in range(0, size - 4096, 8192)))
    taken = lab.take(root)
    assert not any(taken.result.problems.values())
    lab.restore(tmp_path / "out")
    assert (tmp_path / "out/file").read_bytes() == path.read_bytes()
