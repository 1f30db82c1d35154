"""`kill -9` at many moments of a restore: the same command goes on, ends exact, and does not fetch again what was written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crash.killed import open_lab, run, spread
from tests.engine.lab import same, write
from torpor.errors import TargetNotEmpty
from torpor.testing import nasty
from torpor.testing.samples import noise

MIB = 1 << 20
POINTS = 14


class Base(NamedTuple):
    lab: Path  # a lab with two snapshots
    root: Path  # the workspace, as the newer one has it
    old: Path  # as the older one has it
    log: dict[str, list[str]]  # operations of a restore into a new folder, and over the older one


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("killed")
    root = folder / "workspace"
    nasty.make(root / "in", ["names", "hardlinks", "holes", "links", "modes", "times"] if os.geteuid() == 0 else ["names", "hardlinks"])
    write(root / "large", noise(21 * MIB))
    write(root / "goes/away", "x")
    for number in range(40):
        write(root / f"code/{number}.py", f"# {number}\n" * 900)
    (folder / "whole").mkdir()
    run(folder / "lab", "take", root=str(root))
    open_lab(folder / "lab").restore(folder / "old", setuid=True)
    with (root / "large").open("r+b") as file:
        for step in (1, 3, 4):
            file.seek(step * 4 * MIB)
            file.write(b"changed")
    shutil.rmtree(root / "goes")
    for number in range(0, 40, 3):
        write(root / f"code/{number}.py", f"# changed {number}\n" * 900)
        write(root / f"data/{number}.bin", noise(60_000, number))
    nasty.age(os.fsencode(root), [os.fsencode(root / "in") + b"/"])
    run(folder / "lab", "take", root=str(root))
    shutil.copytree(folder / "lab", folder / "counted")
    log = {"new": run(folder / "counted", "restore", target=str(folder / "out"), mode="new")}
    _copy(folder / "old", folder / "merged")
    log["replace"] = run(folder / "counted", "restore", target=str(folder / "merged"), mode="replace")
    assert min(map(len, log.values())) > 60
    return Base(folder / "lab", root, folder / "old", log)


def _copy(source: Path, target: Path) -> None:
    """The older state, by a restore of its own, so that the copy is exact."""
    lab = open_lab(source.parent / "lab")
    lab.restore(target, min(lab.objects("snapshots/"))[len("snapshots/") : -len(".json")], machine="copier")


def _same(base: Base, target: Path) -> None:
    """Setuid bits are not asked for here."""
    same(base.root, target, ignore=("*-2755", "*-4755", "*-6711"))


@pytest.mark.parametrize("number", range(POINTS))
def test_into_a_new_folder(base: Base, tmp_path: Path, number: int) -> None:
    target = tmp_path / "out"
    at = spread(len(base.log["new"]), POINTS, number)
    shutil.copytree(base.lab, tmp_path / "lab")
    run(tmp_path / "lab", "restore", at, after=number % 2 == 1, target=str(target), mode="new")
    lab = open_lab(tmp_path / "lab")
    if number == POINTS - 1:  # killed when all was done: it is a folder in use
        _same(base, target)
        with pytest.raises(TargetNotEmpty):
            lab.restore(target)
        return
    result = lab.restore(target)
    _same(base, target)
    again = lab.take(target, machine="b")
    assert again.snapshot.manifest.files == result.files
    lab.check_all()
    assert sorted(name for name in os.listdir(target) if name.startswith(".torpor")) == []


@pytest.mark.parametrize("number", range(POINTS))
def test_over_an_older_state(base: Base, tmp_path: Path, number: int) -> None:
    target = tmp_path / "out"
    shutil.copytree(base.lab, tmp_path / "lab")
    _copy(base.old, target)
    at = spread(len(base.log["replace"]), POINTS, number)
    run(tmp_path / "lab", "restore", at, after=number % 2 == 1, target=str(target), mode="replace")
    lab = open_lab(tmp_path / "lab")
    result = lab.restore(target, mode="replace")
    _same(base, target)
    assert result.fetched_bytes < 14 * MIB  # three steps and some small files, whatever was left undone
    again = lab.take(target, machine="b")
    assert again.snapshot.manifest.files == result.files
    lab.check_all()


def test_what_was_written_is_not_fetched_again(tmp_path: Path) -> None:
    """Killed when most of a large file was there: the rest of it is fetched, and what was still on its way."""
    source = write(tmp_path / "workspace/large", noise(100 * MIB))
    run(tmp_path / "lab", "take", root=str(source.parent))
    shutil.copytree(tmp_path / "lab", tmp_path / "counted")
    log = run(tmp_path / "counted", "restore", target=str(tmp_path / "whole"), mode="new")
    gets = [number for number, line in enumerate(log, 1) if line.startswith("get_into")]
    assert len(gets) > 25
    run(tmp_path / "lab", "restore", gets[-3], target=str(tmp_path / "out"), mode="new")
    result = open_lab(tmp_path / "lab").restore(tmp_path / "out")
    assert 0 < result.fetched_bytes < 70 * MIB
    same(source.parent, tmp_path / "out")


def test_a_file_as_a_root(base: Base, tmp_path: Path) -> None:
    """Nothing beside it can tell that it is unfinished: so it has its name only when it is whole."""
    shutil.copytree(base.lab, tmp_path / "lab")
    source = base.root / "large"
    run(tmp_path / "lab", "take", root=str(source))
    shutil.copytree(tmp_path / "lab", tmp_path / "counted")
    log = run(tmp_path / "counted", "restore", target=str(tmp_path / "whole"), mode="new")
    write(tmp_path / "out/other", "stays")
    for number in range(0, len(log), 3):
        run(tmp_path / "lab", "restore", number + 1, target=str(tmp_path / "out"), mode="new")
        if (tmp_path / "out/large").exists():
            assert number > len(log) // 2
            break
    else:
        open_lab(tmp_path / "lab").restore(tmp_path / "out")
    same(source, tmp_path / "out/large")
    assert sorted(name for name in os.listdir(tmp_path / "out") if not name.startswith(".torpor-tmp-")) == ["large", "other"]
