"""Retention over a real repository: what goes, what that frees, and what it refuses."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.engine.lab import Lab, same, write
from torpor.clock import FakeClock
from torpor.control import catalogue, prune, retain, snapshots
from torpor.errors import Damaged, KeysMissing, NotFound, RollbackSuspected, UsageError
from torpor.events import ignore
from torpor.jobs import Scope
from torpor.plan.retention import DAY, Policy
from torpor.storage.memory import MemoryStore
from torpor.testing.samples import noise, text

MIB = 1 << 20
WEEK = Policy()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_900_000_000.0)


@pytest.fixture
def lab(tmp_path: Path, clock: FakeClock) -> Lab:
    return Lab(tmp_path / "lab", clock, MemoryStore(clock))


@pytest.fixture
def ids(lab: Lab, root: Path, clock: FakeClock) -> list[str]:
    """Five snapshots, three days apart, each with a large file of its own; the first was proven, the second has a name."""
    found = []
    write(root / "stays", noise(MIB, 99))
    for number in range(5):
        clock.advance(3 * DAY)
        write(root / "own", noise(2 * MIB, number))
        write(root / f"code/{number}.py", text(3000, number))
        found.append(lab.take(root, name="release" if number == 1 else "").snapshot.id)
        if number == 0:
            lab.verify(found[0], "sample")
    return found


def carry_out(lab: Lab, policy: Policy) -> retain.Plan:
    decided = retain.plan(lab.repository, policy)
    retain.carry_out(lab.repository, decided)
    return decided


def test_a_week(lab: Lab, ids: list[str], clock: FakeClock, root: Path, tmp_path: Path) -> None:
    decided = retain.plan(lab.repository, WEEK)
    assert {one.snapshot.id: one.why for one in decided.decisions} == {
        ids[0]: "the newest of its workspace that was proven",
        ids[1]: "older than 7 days",
        ids[2]: "younger than 7 days",
        ids[3]: "younger than 7 days",
        ids[4]: "the newest of its workspace",
    }
    before = sum(lab.objects("packs/").values())
    marked = retain.carry_out(lab.repository, decided)
    assert (marked.marked_bytes, len(marked.marked)) == (decided.freed_bytes, decided.freed_objects)
    assert decided.freed_bytes > 2 * MIB
    assert catalogue.ids(lab.repository) == [ids[0], *ids[2:]]
    clock.advance(prune.GRACE + 1)
    assert lab.prune().deleted_bytes == decided.freed_bytes
    assert sum(lab.objects("packs/").values()) == before - decided.freed_bytes == decided.kept_bytes
    lab.check_all()
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


def test_when_all_are_old_the_newest_and_the_newest_proven_stay(lab: Lab, ids: list[str], clock: FakeClock) -> None:
    clock.advance(1000 * DAY)
    carry_out(lab, WEEK)
    assert catalogue.ids(lab.repository) == [ids[0], ids[4]]
    assert carry_out(lab, WEEK).removed == []


def test_named_and_last(lab: Lab, ids: list[str]) -> None:
    assert retain.plan(lab.repository, WEEK._replace(named=True)).removed == []
    gone = retain.plan(lab.repository, Policy(0.0, last=2)).removed
    assert [snapshot.id for snapshot in gone] == [ids[1], ids[2]]


def test_each_workspace_by_itself(lab: Lab, ids: list[str], clock: FakeClock, tmp_path: Path) -> None:
    write(tmp_path / "other/file", noise(MIB, 5))
    lab.take(tmp_path / "other", machine="other")
    clock.advance(30 * DAY)
    assert [snapshot.id for snapshot in carry_out(lab, WEEK).removed] == ids[1:4]


def test_only_one_machine_s(lab: Lab, root: Path, clock: FakeClock) -> None:
    ids = [_take(lab, root, machine) for machine in ("local:one", "local:two", "local:one", "local:two")]
    clock.advance(30 * DAY)
    assert [snapshot.id for snapshot in retain.plan(lab.repository, WEEK._replace(machine="local:two")).removed] == [ids[1]]


def _take(lab: Lab, root: Path, machine: str) -> str:
    """A snapshot whose manifest says that it is of `machine`."""
    assert isinstance(lab.clock, FakeClock)
    lab.clock.advance(1)
    scope, options = Scope(roots=[os.fsencode(root)]), snapshots.Options(machine=machine)
    return snapshots.take(lab.repository, lab.host, scope, lab.state("a"), options, ignore).snapshot.id


def test_a_damaged_one_is_no_proof(lab: Lab, ids: list[str], clock: FakeClock) -> None:
    """The newest is hurt: it stays, and so does the newest that is whole; the newest proven one that is hurt does not count."""
    lab.verify(ids[2], "full")
    lab.verify(ids[3], "full")
    for number in (3, 4):
        own = [name for name in lab.objects(f"packs/{ids[number]}/") if "index" not in name]
        del lab.memory.objects[own[-1]]
    clock.advance(30 * DAY)
    decided = retain.plan(lab.repository, WEEK)
    assert {one.snapshot.id: one.why for one in decided.decisions if one.keep} == {
        ids[2]: "the newest of its workspace that is not damaged",
        ids[4]: "the newest of its workspace",
    }
    assert decided.hurt == ids[3:]


# refusals


def test_a_manifest_that_cannot_be_believed(lab: Lab, ids: list[str]) -> None:
    name = f"snapshots/{ids[4]}.json"
    lab.memory.objects[name] = lab.memory.objects[f"snapshots/{ids[3]}.json"]
    with pytest.raises(Damaged, match="can't be believed"):
        retain.plan(lab.repository, WEEK)


def test_the_newest_was_lost(lab: Lab, ids: list[str]) -> None:
    """Whoever can delete takes the newest manifest away, so that retention may take the rest."""
    del lab.memory.objects[f"snapshots/{ids[4]}.json"]
    with pytest.raises(RollbackSuspected):
        retain.plan(lab.repository, WEEK)


def test_a_clock_that_runs_ahead(lab: Lab, ids: list[str]) -> None:
    lab.repository.clock = FakeClock(lab.clock.now() + 30 * DAY)
    decided = retain.plan(lab.repository, WEEK)
    before = lab.objects()
    with pytest.raises(UsageError, match="clock is 2592000 s away"):
        retain.carry_out(lab.repository, decided)
    assert lab.objects() == before


def test_somebody_else_removes_what_was_to_stay(lab: Lab, ids: list[str], clock: FakeClock) -> None:
    clock.advance(30 * DAY)
    decided = retain.plan(lab.repository, WEEK)
    lab.remove(ids[4])
    with pytest.raises(NotFound, match="was to stay"):
        retain.carry_out(lab.repository, decided)
    assert catalogue.ids(lab.repository) == ids[:4]
    carry_out(lab, WEEK)
    assert catalogue.ids(lab.repository) == [ids[0], ids[3]]


def test_without_keys_nothing_is_removed(lab: Lab, ids: list[str], clock: FakeClock) -> None:
    stranger = lab.open("stranger")
    clock.advance(30 * DAY)
    decided = retain.plan(stranger, WEEK)
    with pytest.raises(KeysMissing):
        retain.carry_out(stranger, decided)
    assert catalogue.ids(lab.repository) == ids


def test_a_removal_that_was_cut_short_is_no_loss(lab: Lab, ids: list[str], clock: FakeClock) -> None:
    """After its manifest went and before its receipts did."""
    kept = {name: data for name, data in lab.memory.objects.items() if name.startswith(f"receipts/{ids[0]}/")}
    lab.remove(ids[0])
    lab.memory.objects.update(kept)
    assert lab.prune().marked
    clock.advance(30 * DAY)
    carry_out(lab, WEEK)
    assert catalogue.ids(lab.repository) == [ids[4]]
    shutil.rmtree(lab.folder / "home" / "pins")
    lab.prune()
