"""Snapshots go one by one; what is left restores exactly, and what nobody needs leaves the store, in its time."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine.lab import Lab, same, touch, write
from torpor.clock import FakeClock
from torpor.control import catalogue, claims, heads, prune
from torpor.control.prune import GRACE
from torpor.control.repository import Repository
from torpor.errors import UsageError
from torpor.format import names
from torpor.format.manifest import Manifest
from torpor.storage.memory import MemoryStore, Object
from torpor.testing.samples import noise, text

HOUR = 3600.0
MIB = 1 << 20


@dataclass
class Line:
    """Five snapshots of one workspace, each built on those before."""

    lab: Lab
    clock: FakeClock
    ids: list[str]
    trees: list[Path]
    objects: dict[str, Object]
    at: float

    def packs(self, number: int) -> set[str]:
        head = heads.head_of(self.lab.repository, self.manifest(number))
        return {f"packs/{pack.name}" for pack in head.packs} | {f"packs/{self.manifest(number).index.name}"}

    def manifest(self, number: int) -> Manifest:
        return catalogue.load(self.lab.repository, self.ids[number]).manifest

    def check(self, numbers: list[int], tmp_path: Path, repository: Repository | None = None) -> None:
        """These restore exactly, by these keys, and are all there is."""
        assert catalogue.ids(repository or self.lab.repository) == [self.ids[number] for number in numbers]
        for number in numbers:
            target = tmp_path / f"out-{number}"
            self.lab.restore(target, self.ids[number], machine=f"fresh-{number}", repository=repository)
            same(self.trees[number], target)
            shutil.rmtree(target)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Line:
    folder = tmp_path_factory.mktemp("line")
    clock = FakeClock(1_900_000_000.0)
    lab, root = Lab(folder / "lab", clock, MemoryStore(clock)), folder / "workspace"
    ids, trees = [], []
    write(root / "stays", noise(3 * MIB, 99))
    for number in range(5):
        write(root / f"code/{number}.py", text(4000, number))
        write(root / f"large-{number}", noise(2 * MIB, number))
        write(root / "changes", noise(MIB + 4, 50 + number))
        (root / f"large-{number - 2}").unlink(missing_ok=True)
        ids.append(lab.take(root).snapshot.id)
        trees.append(folder / f"tree-{number}")
        lab.restore(trees[-1], ids[-1], machine="copier")
    lab.check_all()
    line = Line(lab, clock, ids, trees, dict(lab.memory.objects), clock.at)
    assert len({"/".join(sorted(line.packs(number))) for number in range(5)}) == 5
    assert line.packs(0) & line.packs(4)
    shutil.copytree(lab.folder / "home", lab.folder / "home.kept")
    return line


@pytest.fixture
def line(built: Line) -> Line:
    built.lab.memory.objects = dict(built.objects)
    built.clock.at = built.at
    shutil.rmtree(built.lab.folder / "home")
    shutil.copytree(built.lab.folder / "home.kept", built.lab.folder / "home")
    shutil.rmtree(built.lab.folder / "second", ignore_errors=True)
    return built


@pytest.mark.parametrize("gone", [[0], [1], [2], [3], [4], [0, 1, 2, 3], [1, 2, 3, 4], [0, 2, 4], [0, 1, 2, 3, 4]], ids=str)
@pytest.mark.parametrize("grace", [0.0, GRACE], ids=["at once", "in a day"])
def test_what_is_left_restores_exactly(line: Line, tmp_path: Path, gone: list[int], grace: float) -> None:
    left = [number for number in range(5) if number not in gone]
    needed = {name for number in left for name in line.packs(number)}
    doomed = {name for number in gone for name in line.packs(number)} - needed
    assert doomed
    for number in gone:
        line.lab.remove(line.ids[number])
    if grace:
        marked = line.lab.prune()
        assert (set(marked.marked), marked.deleted) == (doomed, {})
        line.clock.advance(GRACE - 1)
        early = line.lab.prune()
        assert (early.deleted, early.waiting) == ({}, len(doomed))
        line.clock.advance(2)
    swept = line.lab.prune(grace)
    assert set(swept.deleted) == doomed
    assert swept.deleted_bytes == sum(len(line.objects[name].data) for name in doomed)
    assert set(line.lab.objects("packs/")) == needed
    assert line.lab.check_all() == [line.ids[number] for number in left]
    line.check(left, tmp_path)
    # Another computer has the bucket and the recovery key, and nothing else.
    line.check(left, tmp_path, line.lab.open("second", TORPOR_RECOVERY_KEY=line.lab.recovery_key))


def test_every_snapshot_has_all_keys_it_needs(line: Line) -> None:
    """A manifest's keyring opens every pack that it names, so that no other manifest is asked."""
    for number in range(5):
        writers = {names.writer_of(name[len("packs/") :]) for name in line.packs(number)}
        assert set(line.manifest(number).keyring) == writers
    assert len(line.manifest(4).keyring) == 5


def test_the_next_snapshot_after_a_removal_stores_what_is_gone(line: Line, tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    shutil.copytree(line.trees[4], root)
    line.lab.restore(root, line.ids[4], machine="next", mode="merge")
    for snapshot in line.ids:
        line.lab.remove(snapshot)
    line.lab.prune(0)
    assert line.lab.objects("packs/") == {}
    taken = line.lab.take(root, machine="next")
    line.lab.check_all()
    line.lab.restore(tmp_path / "out", taken.snapshot.id)
    same(root, tmp_path / "out")


def test_a_dry_run_says_what_would_go(line: Line) -> None:
    line.lab.remove(line.ids[0])
    before = dict(line.lab.memory.objects)
    dry = prune.prune(line.lab.repository, dry_run=True)
    assert dry.marked
    assert dry.dry_run
    assert line.lab.memory.objects == before
    assert set(prune.prune(line.lab.repository).marked) == set(dry.marked)


def test_no_short_grace_while_a_snapshot_is_made(line: Line) -> None:
    """A claim that lives keeps what it builds on, however long; and only a day's grace is safe beside it."""
    repository = line.lab.repository
    claim = claims.new(repository, "20300101T000000000-00000000", line.manifest(4).lineage, [heads.parent_of(line.manifest(4))], [])
    claims.write(repository, claim)
    for snapshot in line.ids:
        line.lab.remove(snapshot)
    with pytest.raises(UsageError, match="being made"):
        line.lab.prune(0)
    line.lab.prune()
    for _ in range(8):  # it is renewed all the time
        line.clock.advance(0.5 * HOUR)
        claim = claims.renew(repository, claim)
    line.clock.advance(0.9 * HOUR)
    assert line.lab.prune().deleted == {}
    kept = set(line.lab.objects("packs/"))
    line.clock.advance(0.2 * HOUR)  # it ran out, and its clock may be slow: it still counts
    line.lab.prune()
    assert set(line.lab.objects("packs/")) == kept
    line.clock.advance(2 * GRACE)
    line.lab.prune()
    line.clock.advance(2 * GRACE)
    line.lab.prune()
    assert line.lab.objects("packs/") == line.lab.objects("claims/") == {}


def test_what_a_claim_needs_is_neither_marked_nor_swept(line: Line) -> None:
    repository = line.lab.repository
    needed = line.packs(4)
    claim = claims.new(repository, "20300101T000000000-00000000", line.manifest(4).lineage, [heads.parent_of(line.manifest(4))], [])
    for snapshot in line.ids:
        line.lab.remove(snapshot)
    line.lab.prune()  # marked: nobody needs anything
    line.clock.advance(GRACE + 1)
    claim = claims.new(repository, claim.snapshot, claim.lineage, claim.parents, [])
    claims.write(repository, claim)
    swept = line.lab.prune()
    assert not needed.intersection(swept.deleted)
    assert needed <= set(line.lab.objects("packs/"))


# consolidation


@pytest.mark.parametrize("woken", [False, True], ids=["one machine", "another each day"])
def test_old_thin_packs_disappear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, woken: bool) -> None:
    """Each day some files change for the last time, beside many that go on changing, and yesterday's snapshot goes.

    So each day leaves a pack of which little is used, for ever: unless that little is written anew. A machine that was woken in the
    morning knows from its restore how little that is.
    """
    monkeypatch.setattr("torpor.hibernate.packer.PACK_TARGET", MIB)
    clock = FakeClock(1_900_000_000.0)
    lab, root = Lab(tmp_path / "lab", clock, MemoryStore(clock)), tmp_path / "workspace"
    for number in range(120):
        touch(write(root / f"{number:03d}.bin", noise(40_000, number)), 1e6)
    for number in range(4):
        touch(write(root / f"large-{number}", noise(2 * MIB, 1000 + number)), 1e6)
    first = lab.take(root).snapshot.id
    sizes, machine = [], "a"
    for day in range(24):
        if woken:
            shutil.rmtree(root)
            root, machine = tmp_path / f"day-{day}" / "workspace", f"day-{day}"
            lab.restore(root, machine=machine)
        for number in range(120):
            if day <= number % 24:
                write(root / f"{number:03d}.bin", noise(40_000, 10_000 + day * 200 + number))
        taken = lab.take(root, machine=machine)
        for snapshot in catalogue.ids(lab.repository)[:-1]:
            lab.remove(snapshot)
        clock.advance(GRACE + 1)
        lab.prune()
        sizes.append(sum(lab.objects("packs/").values()))
    clock.advance(GRACE + 1)
    lab.prune()
    live = 120 * 40_000 + 4 * 2 * MIB
    assert taken.snapshot.manifest.raw_bytes == live
    assert sum(lab.objects("packs/").values()) < 1.7 * live
    assert max(sizes) < 3 * live
    old = [pack for pack in heads.head_of(lab.repository, taken.snapshot.manifest).packs if names.snapshot_of(pack.name) == first]
    assert len(old) <= 8  # those of the large files, which never changed
    assert len(taken.snapshot.manifest.keyring) < 8
    assert lab.check_all() == [taken.snapshot.id]
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


def test_what_is_all_used_is_never_written_anew(lab: Lab, root: Path) -> None:
    """However small a pack is: its header and table do not make it thin."""
    write(root / "tiny", "x")
    write(root / "large", noise(9 * MIB))
    lab.take(root)
    for number in range(3):
        taken = lab.take(root)
        assert taken.snapshot.manifest.new_bytes == taken.snapshot.manifest.index.size, number
