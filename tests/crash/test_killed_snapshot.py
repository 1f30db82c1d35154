"""`kill -9` at many moments of a snapshot: earlier ones stay whole, the same command goes on, and nothing is sent twice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crash.killed import open_lab, run, spread
from tests.engine.lab import Lab, let_age, same, write
from torpor.clock import FakeClock
from torpor.control import catalogue, heads, prune
from torpor.format import names
from torpor.format.index import Pack
from torpor.testing import nasty
from torpor.testing.samples import noise
from torpor.workspace import journal

MIB = 1 << 20
POINTS = 14


class Base(NamedTuple):
    lab: Path  # a lab with one snapshot of the workspace
    root: Path  # the workspace, grown since
    first: str
    log: list[str]  # the operations of a snapshot that nothing kills
    new_bytes: int  # what it writes


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("killed")
    root = folder / "workspace"
    nasty.make(root / "in", ["names", "hardlinks", "holes"])
    write(root / "large", noise(5 * MIB))
    lab = open_lab(folder / "lab")
    first = lab.take(root).snapshot.id
    for number in range(3):
        write(root / f"more-{number}", noise(4 * MIB + 100, number))
    for number in range(30):
        write(root / f"new/{number}.py", f"# {number}\n" * 900)
        write(root / f"new/{number}.bin", noise(60_000, number))
    let_age(root)
    shutil.copytree(folder / "lab", folder / "whole")
    log = run(folder / "whole", "take", root=str(root))
    made = catalogue.load(open_lab(folder / "whole").repository, _newest(open_lab(folder / "whole")))
    assert len(log) > 30
    return Base(folder / "lab", root, first, log, made.manifest.new_bytes)


def _newest(lab: Lab) -> str:
    return catalogue.resolve(lab.repository, "latest")


def _journaled(lab: Lab) -> dict[str, int]:
    """Size by name of the packs that journals of dead attempts tell of."""
    found: dict[str, int] = {}
    for folder, _, files in os.walk(os.path.join(lab.state("a"), b"journals")):
        for name in files:
            if (read := journal.read(os.path.join(folder, name))) and read[0].snapshot not in catalogue.ids(lab.repository):
                found |= {pack.name: pack.size for pack in read[1]}
    return found


def _commit(log: list[str]) -> int:
    """Number of the operation that makes a snapshot of it."""
    (at,) = [number for number, line in enumerate(log, 1) if line.startswith("put snapshots/")]
    return at


def _finish(lab: Lab, base: Base, tmp_path: Path, kept: dict[str, int]) -> None:
    """The same command again: exact, and what was sent before is not sent again. Then prune takes what nobody needs."""
    taken = lab.take(base.root)
    head = heads.head_of(lab.repository, taken.snapshot.manifest)
    assert kept.keys() <= {pack.name for pack in head.packs}
    # The rest, and a little for one more header, table and index.
    assert taken.snapshot.manifest.new_bytes < base.new_bytes - sum(kept.values()) + 20_000
    assert set(lab.check_all()) >= {base.first, taken.snapshot.id}
    lab.restore(tmp_path / "out")
    same(base.root, tmp_path / "out")
    later = FakeClock(lab.repository.clock.now() + 2 * 3600)  # by when the claims of the dead have run out
    lab.clock = later
    lab.repository = lab.open("home")
    prune.prune(lab.repository, grace=0)
    left = {name for name in lab.objects("packs/") if names.is_pack(name[len("packs/") :])}
    needed = {f"packs/{pack.name}" for snapshot in lab.check_all() for pack in _packs(lab, snapshot)}
    assert left == needed
    assert lab.objects("claims/") == {}
    lab.restore(tmp_path / "after-prune")
    same(base.root, tmp_path / "after-prune")


def _packs(lab: Lab, snapshot: str) -> list[Pack]:
    return heads.head_of(lab.repository, catalogue.load(lab.repository, snapshot).manifest).packs


@pytest.mark.parametrize("number", range(POINTS))
def test_killed_once(base: Base, tmp_path: Path, number: int) -> None:
    shutil.copytree(base.lab, tmp_path / "lab")
    at = spread(len(base.log), POINTS, number)
    run(tmp_path / "lab", "take", at, after=number % 2 == 1, root=str(base.root))
    lab = open_lab(tmp_path / "lab")
    assert lab.check_all()[0] == base.first  # the new one is whole if it is there
    kept = _journaled(lab) if len(catalogue.ids(lab.repository)) == 1 else {}
    if len(catalogue.ids(lab.repository)) == 1:
        _finish(lab, base, tmp_path, kept)
    else:  # killed behind its commit
        assert at >= _commit(base.log)
        lab.restore(tmp_path / "out")
        same(base.root, tmp_path / "out")


def _moment(log: list[str], part: float) -> int:
    """The operation at this part of the packs that reach the journal; 1.0: the commit."""
    packs = [number for number, line in enumerate(log, 1) if line == "pack"]
    return _commit(log) if part == 1.0 or not packs else packs[int(len(packs) * part)]


@pytest.mark.parametrize(("first", "second"), [(0.5, 0.5), (0.5, 1.0), (0.9, 0.5), (1.0, 0.3), (1.0, 1.0)])
def test_killed_twice(base: Base, tmp_path: Path, first: float, second: float) -> None:
    """Also when an attempt was done but for its commit (1.0): what those before it had sent still counts."""
    shutil.copytree(base.lab, tmp_path / "lab")
    run(tmp_path / "lab", "take", _moment(base.log, first), root=str(base.root))
    lab = open_lab(tmp_path / "lab")
    kept = _journaled(lab)
    assert kept
    shutil.copytree(tmp_path / "lab", tmp_path / "counted")
    log = run(tmp_path / "counted", "take", root=str(base.root))
    run(tmp_path / "lab", "take", _moment(log, second), root=str(base.root))
    assert lab.check_all() == [base.first]
    kept |= _journaled(lab)
    _finish(lab, base, tmp_path, kept)
