"""A pack that went missing or bad while its bytes are still on the machine: the next snapshot stores them anew, and who is hurt is told.

The files have not changed, so nothing but the store tells that they must be read again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.lab import Lab, let_age, same, write
from torpor.control import catalogue, heads, retain
from torpor.control.snapshots import Taken
from torpor.plan.retention import Policy
from torpor.storage.base import Store
from torpor.storage.local import LocalStore
from torpor.storage.memory import MemoryStore
from torpor.testing.samples import noise, text, weights

MIB = 1 << 20
STORES: dict[str, Callable[[Path], Store]] = {"memory": lambda folder: MemoryStore(), "local": lambda folder: LocalStore(str(folder))}


@pytest.fixture(params=STORES)
def lab(tmp_path: Path, request: pytest.FixtureRequest) -> Lab:
    return Lab(tmp_path / "lab", store=STORES[request.param](tmp_path / "store"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Code, small files and large ones, so that there is a pack of each class; never changed, and so old that their stat is believed."""
    path = tmp_path_factory.mktemp("heal") / "workspace"
    for number in range(30):
        write(path / f"code/{number}.py", text(3000, number))
        write(path / f"images/{number}.jpg", noise(40_000, number))
    write(path / "weights.bin", weights("bf16", 5 * MIB, 1))
    let_age(path)
    return path


@pytest.fixture
def old(lab: Lab, root: Path) -> Taken:
    return lab.take(root)


def packs(lab: Lab, snapshot: str) -> set[str]:
    head = heads.head_of(lab.repository, catalogue.load(lab.repository, snapshot).manifest)
    return {f"packs/{pack.name}" for pack in head.packs}


def by_class(lab: Lab, snapshot: str) -> list[str]:
    """The pack of code, that of small files, that of large ones."""
    found = sorted(packs(lab, snapshot), key=lambda name: lab.store.get(name)[10])
    assert [lab.store.get(name)[10] for name in found] == [1, 2, 3]
    return found


def lose(lab: Lab, name: str) -> None:
    lab.store.delete([name])


def cut(lab: Lab, name: str) -> None:
    lab.store.put(name, lab.store.get(name)[:-1])


def flip(lab: Lab, name: str) -> None:
    data = bytearray(lab.store.get(name))
    data[len(data) // 2] ^= 1
    lab.store.put(name, bytes(data))


def is_whole(lab: Lab, taken: Taken, root: Path, out: Path) -> None:
    """It verifies in full, and restores exactly on a machine that has never seen it."""
    assert lab.verify(taken.snapshot.id, "full").damage == {}
    lab.restore(out, taken.snapshot.id, machine=out.name)
    same(root, out)
    shutil.rmtree(out)


@pytest.mark.parametrize("harm", [lose, cut])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["code", "small files", "large files"])
def test_a_missing_pack_is_written_anew(
    lab: Lab, root: Path, old: Taken, tmp_path: Path, harm: Callable[[Lab, str], None], which: int
) -> None:
    """Nobody has noticed before: the look at what is there is enough."""
    names = by_class(lab, old.snapshot.id)
    unchanged = lab.take(root)
    assert (unchanged.result.read_files, packs(lab, unchanged.snapshot.id)) == (0, {*names})
    harm(lab, names[which])
    healed = lab.take(root)
    new = packs(lab, healed.snapshot.id)
    assert new & set(names) == set(names) - {names[which]}  # the others are used as before
    assert len(new) == 3
    is_whole(lab, healed, root, tmp_path / "out")
    for hurt in (old, unchanged):
        verified = lab.verify(hurt.snapshot.id, "presence")
        assert set(verified.damage) == {names[which]}
        assert verified.hurt == [old.snapshot.id, unchanged.snapshot.id]


@pytest.mark.parametrize("which", [0, 1, 2], ids=["code", "small files", "large files"])
def test_a_damaged_pack_is_written_anew_once_it_was_found(lab: Lab, root: Path, old: Taken, tmp_path: Path, which: int) -> None:
    """Its name and size are right, so only reading tells; what a verification of any snapshot found, the next snapshot knows."""
    names = by_class(lab, old.snapshot.id)
    second = lab.take(root)
    flip(lab, names[which])
    assert set(lab.verify(old.snapshot.id, "full").damage) == {names[which]}
    healed = lab.take(root)
    assert names[which] not in packs(lab, healed.snapshot.id)
    is_whole(lab, healed, root, tmp_path / "out")
    assert lab.verify(second.snapshot.id, "full").hurt == [old.snapshot.id, second.snapshot.id]


def test_it_is_healed_once_and_for_all(lab: Lab, root: Path, old: Taken, tmp_path: Path) -> None:
    """The snapshot after the healing one stores nothing, and is whole too."""
    for name in packs(lab, old.snapshot.id):
        flip(lab, name)
    lab.verify(old.snapshot.id, "full")
    healed = lab.take(root)
    after = lab.take(root)
    assert after.snapshot.manifest.new_bytes == after.snapshot.manifest.index.size
    assert packs(lab, after.snapshot.id) == packs(lab, healed.snapshot.id)
    is_whole(lab, after, root, tmp_path / "out")


def test_a_machine_that_was_woken_heals_too(lab: Lab, root: Path, old: Taken, tmp_path: Path) -> None:
    """It wrote none of these packs, and has their bytes because it restored them."""
    woken = tmp_path / "woken"
    lab.restore(woken, old.snapshot.id, machine="woken")
    names = by_class(lab, old.snapshot.id)
    lose(lab, names[1])
    flip(lab, names[2])
    lab.verify(old.snapshot.id, "full")
    is_whole(lab, lab.take(woken, machine="woken"), woken, tmp_path / "out")


def test_the_hurt_are_told_until_they_are_gone(lab: Lab, root: Path, old: Taken) -> None:
    """Retention names them, and takes none of them for the newest proof, whatever receipts they have from better days."""
    lab.verify(old.snapshot.id, "full")
    lose(lab, by_class(lab, old.snapshot.id)[2])
    healed = lab.take(root)
    decided = retain.plan(lab.repository, Policy(seconds=0.0))
    assert decided.hurt == [old.snapshot.id]
    assert [snapshot.id for snapshot in decided.removed] == [old.snapshot.id]
    retain.carry_out(lab.repository, decided)
    assert retain.plan(lab.repository, Policy(seconds=0.0)).hurt == []
    assert lab.check_all() == [healed.snapshot.id]


def test_what_is_put_back_is_trusted_again(lab: Lab, root: Path, old: Taken) -> None:
    """A pack and an index from a copy of the bucket: once they were read well, nobody is hurt."""
    index = f"packs/{old.snapshot.manifest.index.name}"
    name = by_class(lab, old.snapshot.id)[2]
    copy = {one: lab.store.get(one) for one in (index, name)}
    flip(lab, name)
    lab.verify(old.snapshot.id, "full")
    flip(lab, index)
    assert set(lab.verify(old.snapshot.id, "full").damage) == {index}
    for one, data in copy.items():
        lab.store.put(one, data)
    assert retain.plan(lab.repository, Policy()).hurt == [old.snapshot.id]
    assert lab.verify(old.snapshot.id, "full").damage == {}
    assert retain.plan(lab.repository, Policy()).hurt == []
    assert packs(lab, lab.take(root).snapshot.id) == packs(lab, old.snapshot.id)
