"""Every crash point of the control side, counted: repositories made, snapshots committed, removed, pruned, verified.

At each operation on the store, before and after it took effect, the process is gone. Whatever is there then: each snapshot that has a
manifest is whole, and the same command again ends as if nothing had happened.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine.lab import Lab, let_age, same, write
from torpor.clock import FakeClock
from torpor.control import catalogue, prune
from torpor.control.repository import open_repository
from torpor.errors import ClaimLost, Damaged, NotFound, TorporError
from torpor.settings import load
from torpor.storage.memory import MemoryStore, Object
from torpor.testing.faults import Crash, CrashStore, FaultyStore
from torpor.testing.samples import noise

DAY = 24 * 3600.0
NOW = 1_900_000_000.0  # later than the files of the test, by a clock that only the test moves


@dataclass
class World:
    """A lab in a state that can be returned to."""

    lab: Lab
    root: Path
    objects: dict[str, Object]
    at: float

    @property
    def clock(self) -> FakeClock:
        assert isinstance(self.lab.clock, FakeClock)
        return self.lab.clock

    def keep(self) -> None:
        """This is the state to return to."""
        self.objects, self.at = dict(self.lab.memory.objects), self.clock.at
        for part in ("home", "state"):
            shutil.rmtree(self.lab.folder / f"{part}.kept", ignore_errors=True)
            if (self.lab.folder / part).exists():
                shutil.copytree(self.lab.folder / part, self.lab.folder / f"{part}.kept")

    def back(self) -> None:
        self.lab.memory.objects = dict(self.objects)
        self.clock.at = self.at
        for part in ("home", "state"):
            shutil.rmtree(self.lab.folder / part, ignore_errors=True)
            if (self.lab.folder / f"{part}.kept").exists():
                shutil.copytree(self.lab.folder / f"{part}.kept", self.lab.folder / part)
        self.lab.repository.store = self.lab.store

    def crashes(self, command: Callable[[], object]) -> Iterator[str]:
        """Run a command once for each crash point; the place where it died is yielded, with what is left in place."""
        point = CrashStore(self.lab.memory)
        self.back()
        self.lab.repository.store = point
        command()
        for at in range(1, point.count + 1):
            for after in (False, True):
                self.back()
                dying = CrashStore(self.lab.memory, at, after=after)
                self.lab.repository.store = dying
                with pytest.raises(Crash):
                    command()
                self.lab.repository.store = self.lab.store
                yield f"{'after' if after else 'before'} {dying.point.log[at - 1]} ({at})"
        self.back()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three snapshots that share packs; the workspace has changed since."""
    folder = tmp_path_factory.mktemp("built")
    clock = FakeClock(NOW)
    lab = Lab(folder / "lab", clock, MemoryStore(clock))
    root = folder / "workspace"
    for number in range(3):
        write(root / f"code/{number}.py", f"# {number}\n")
        write(root / f"large-{number}", noise(1_100_000, number))
        lab.take(root)
    write(root / "code/new.py", "# new")
    write(root / "large-new", noise(1_200_000, 9))
    let_age(root)
    return World(lab, root, dict(lab.memory.objects), clock.at)


@pytest.fixture
def world(built: World, tmp_path: Path) -> World:
    """The same, for one test."""
    shutil.copytree(built.lab.folder, tmp_path / "lab")
    clock = FakeClock(built.at)
    store = MemoryStore(clock)
    store.objects = dict(built.objects)
    made = World(Lab(tmp_path / "lab", clock, store), built.root, {}, 0)
    made.keep()
    return made


def test_making_a_repository(tmp_path: Path) -> None:
    """A crash leaves none, or a whole one; never something that counts as damaged."""
    write(tmp_path / "workspace/file", "x")

    total = _create(tmp_path / "whole", 0, after=False)[1].count
    assert total >= 4
    for at in range(1, total + 1):
        for after in (False, True):
            store, _ = _create(tmp_path / f"{at}-{after}", at, after=after)
            other = Lab(tmp_path / f"other-{at}-{after}", store=store)  # another computer comes along
            if "config.json" in store.objects and other.repository.keys is None:
                lab = Lab(tmp_path / f"{at}-{after}", store=store)
                assert not lab.repository.created
            else:
                lab = other
            lab.take(tmp_path / "workspace")
            lab.check_all()
            lab.restore(tmp_path / f"out-{at}-{after}")
            fresh = lab.open("second-home", TORPOR_RECOVERY_KEY=lab.recovery_key)
            assert fresh.keys is not None
            lab.restore(tmp_path / f"again-{at}-{after}", repository=fresh, machine="c")
            same(tmp_path / "workspace", tmp_path / f"again-{at}-{after}")


def _create(folder: Path, at: int, *, after: bool) -> tuple[MemoryStore, CrashStore]:
    """Make a repository, or die on the way."""
    store = MemoryStore()
    crashing = CrashStore(store, at, after=after)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torpor.control.repository.open_store", lambda url, access: crashing)
        with pytest.raises(Crash) if at else nullcontext():
            open_repository(load({"TORPOR_HOME": str(folder / "home")}, store.url), create=True)
    return store, crashing


def test_taking_a_snapshot(world: World, tmp_path: Path) -> None:
    lab = world.lab
    before = catalogue.ids(lab.repository)
    points = 0
    for where in world.crashes(lambda: lab.take(world.root)):
        points += 1
        assert catalogue.ids(lab.repository)[:3] == before, where
        assert lab.verify().damage == {}, where  # the new one, if it is there
        taken = lab.take(world.root)
        found = catalogue.ids(lab.repository)
        assert found[-1] == taken.snapshot.id, where
        assert taken.snapshot.manifest.generation == len(found), where
        if points % 8 == 0:
            lab.restore(tmp_path / f"{points}")
            same(world.root, tmp_path / f"{points}")
        if points % 4 == 1:
            for _ in range(2):
                world.clock.advance(2 * DAY)
                lab.prune()
            assert lab.check_all() == found, where
            assert lab.objects("claims/") == {}, where
            assert {name.split("/")[1] for name in lab.objects("packs/")} <= set(found) | _builders(lab, found), where
    assert points > 30


def _builders(lab: Lab, found: list[str]) -> set[str]:
    """Dead attempts whose packs a snapshot goes on with."""
    return {writer.split("/")[0] for snapshot in found for writer in catalogue.load(lab.repository, snapshot).manifest.keyring}


@pytest.mark.parametrize("which", [0, 1, 2])
def test_removing_a_snapshot(world: World, tmp_path: Path, which: int) -> None:
    lab = world.lab
    before = catalogue.ids(lab.repository)
    doomed = before[which]
    for snapshot in before:
        lab.verify(snapshot)  # so that there are receipts
    world.keep()
    for where in world.crashes(lambda: lab.remove(doomed)):
        left = lab.check_all()
        assert [snapshot for snapshot in left if snapshot != doomed] == [snapshot for snapshot in before if snapshot != doomed], where
        lab.remove(doomed)
        assert doomed not in lab.check_all(), where
        assert [name for name in lab.objects() if doomed in name and not name.startswith("packs/")] == [f"removed/{doomed}.json"], where
        lab.take(world.root)  # nobody takes the removal for a loss
        lab.check_all()
    with pytest.raises(NotFound):
        lab.remove("20260101T000000000-00000000")


def _prepare_prune(world: World) -> list[str]:
    """The first snapshot is removed, a dead attempt has left packs; what is kept."""
    lab = world.lab
    doomed = catalogue.ids(lab.repository)[0]
    store = CrashStore(lab.memory)
    lab.repository.store = store
    lab.take(world.root)
    newest = catalogue.ids(lab.repository)[-1]
    lab.memory.delete([f"snapshots/{newest}.json"])  # as if it had never been committed
    shutil.rmtree(lab.folder / "home" / "pins")
    lab.repository.store = lab.store
    lab.remove(doomed)
    world.clock.advance(2 * DAY)
    world.keep()
    return catalogue.ids(lab.repository)


def test_pruning_at_once(world: World, tmp_path: Path) -> None:
    kept = _prepare_prune(world)
    lab = world.lab
    lab.prune(0)
    expected = set(lab.objects())
    assert len(expected) < len(world.objects)
    for where in world.crashes(lambda: lab.prune(0)):
        assert lab.check_all() == kept, where
        lab.prune(0)
        lab.prune(0)
        assert {name for name in lab.objects() if not name.startswith(("marks/", "receipts/"))} == _plain(expected), where
        assert lab.check_all() == kept, where
    for snapshot in kept:
        lab.restore(tmp_path / snapshot, snapshot)


def _plain(found: set[str]) -> set[str]:
    return {name for name in found if not name.startswith(("marks/", "receipts/"))}


@pytest.mark.parametrize("phase", ["mark", "sweep"])
def test_pruning_in_two_phases(world: World, phase: str) -> None:
    kept = _prepare_prune(world)
    lab = world.lab
    if phase == "sweep":
        lab.prune()
        world.clock.advance(1.5 * DAY)
        world.keep()
    for where in world.crashes(lab.prune):
        assert lab.check_all() == kept, where
        for _ in range(3):
            lab.prune()
            world.clock.advance(1.5 * DAY)
        assert lab.objects("marks/") == {}, where
        assert lab.check_all() == kept, where
        left = {name.split("/")[1] for name in lab.objects("packs/")}
        assert left <= {snapshot.split("/")[0] for snapshot in _builders(lab, kept)}, where


def test_verifying(world: World) -> None:
    lab = world.lab
    newest = catalogue.ids(lab.repository)[-1]
    for where in world.crashes(lambda: lab.verify(newest)):
        verified = lab.verify(newest)
        assert verified.damage == {}, where
        assert verified.receipt is not None, where


# two at once


@pytest.mark.parametrize(
    ("removed", "marked"),
    [("the newest", "before"), ("all", "before"), ("the newest", "now"), ("all", "now"), ("all", "never"), ("none", "never")],
)
def test_a_prune_at_any_moment_of_a_snapshot(world: World, tmp_path: Path, removed: str, marked: str) -> None:
    """Another control side removes, marks and sweeps between any two operations of a snapshot that builds on what it takes.

    The snapshot ends whole, or fails with a reason and is whole the next time. None ever names what is gone.
    """
    lab = world.lab
    other = lab.open("other-home", TORPOR_RECOVERY_KEY=lab.recovery_key)
    present = catalogue.ids(lab.repository)
    doomed = {"the newest": present[-1:], "all": present, "none": []}[removed]
    if marked == "before":
        for snapshot in doomed:
            prune.remove(other, snapshot)
        prune.prune(other)
        world.clock.advance(1.5 * DAY)
    world.keep()

    def intrude() -> None:
        if marked != "before":
            for snapshot in doomed:
                prune.remove(other, snapshot)
        if marked == "now":
            prune.mark(other)
        prune.prune(other)

    counted = CrashStore(lab.memory)
    lab.repository.store = counted
    lab.take(world.root)
    failures = 0
    for at in range(1, counted.count + 1):
        world.back()

        def script(operation: str, name: str, number: int, at: int = at) -> None:
            if number == at:
                intrude()

        lab.repository.store = FaultyStore(lab.memory, script)
        try:
            lab.take(world.root)
        except (Damaged, ClaimLost):
            failures += 1
            lab.repository.store = lab.store
            lab.take(world.root)
        lab.repository.store = lab.store
        assert not set(doomed).intersection(catalogue.ids(lab.repository)), at
        if at % 8 == 0:
            lab.restore(tmp_path / f"{at}")
            same(world.root, tmp_path / f"{at}")
        world.clock.advance(1.5 * DAY)
        lab.prune()
        world.clock.advance(1.5 * DAY)
        lab.prune()
        lab.check_all()
    assert failures < counted.count // 2
    assert failures == 0 or removed != "none"


def test_a_removed_parent_does_not_stop_the_next_snapshot(world: World, tmp_path: Path) -> None:
    """The machine's last snapshot was removed and marked for prune: the next one builds on nothing that is marked."""
    lab = world.lab
    for snapshot in catalogue.ids(lab.repository):
        lab.remove(snapshot)
    lab.prune()
    taken = lab.take(world.root)
    assert taken.snapshot.manifest.parent is None
    world.clock.advance(1.5 * DAY)
    lab.prune()
    assert lab.check_all() == [taken.snapshot.id]
    lab.restore(tmp_path / "out")
    same(world.root, tmp_path / "out")


def test_a_claim_that_ran_out_is_not_committed(world: World) -> None:
    """The host took longer than its claim lived: what it built on may be gone, so nothing is written."""
    lab = world.lab
    before = catalogue.ids(lab.repository)

    def late(operation: str, name: str, number: int) -> None:
        if operation == "get" and "index-" in name and name.split("/")[1] not in before:
            world.clock.advance(3601)

    lab.repository.store = FaultyStore(lab.memory, late)
    with pytest.raises(ClaimLost):
        lab.take(world.root)
    lab.repository.store = lab.store
    assert lab.check_all() == before
    lab.take(world.root)
    lab.check_all()


@pytest.mark.parametrize("letter", ["E", "A"])
def test_a_store_that_fails_at_any_operation(world: World, tmp_path: Path, letter: str) -> None:
    """No answer, or an answer that is lost: the command fails with an error of ours, and works the next time."""
    lab = world.lab
    counted = CrashStore(lab.memory)
    lab.repository.store = counted
    lab.take(world.root)
    for at in range(1, counted.count + 1):
        world.back()
        lab.repository.store = FaultyStore(lab.memory, "r" * (at - 1) + letter)
        try:
            lab.take(world.root)
        except TorporError:
            lab.repository.store = lab.store
            lab.take(world.root)
        lab.repository.store = lab.store
        lab.check_all()
        if at % 8 == 0:
            lab.restore(tmp_path / f"{at}")
            same(world.root, tmp_path / f"{at}")
