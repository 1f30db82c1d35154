"""What a disk, a bucket or somebody with access to it makes of stored bytes: verify names the object, restore never takes it for good."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine.lab import Lab, write
from torpor.control import catalogue, heads, prune
from torpor.errors import Damaged, Malformed, NotFound, TorporError
from torpor.format import index, pack
from torpor.storage.memory import Object
from torpor.testing import nasty
from torpor.testing.compare import compare_trees
from torpor.testing.samples import noise, text, weights

MIB = 1 << 20


@dataclass
class Vault:
    """Three snapshots that share packs, in memory; damage is undone after each test."""

    lab: Lab
    ids: list[str]
    packs: list[list[str]]  # of each snapshot, by number: full names
    trees: list[Path]  # what each snapshot must come back as
    whole: dict[str, Object]

    @property
    def objects(self) -> dict[str, Object]:
        return self.lab.memory.objects

    def data(self, name: str) -> bytes:
        return self.whole[name].data

    def put(self, name: str, data: bytes) -> None:
        self.objects[name] = self.whole[name]._replace(data=data)

    def flip(self, name: str, at: int, mask: int = 0x01) -> None:
        data = bytearray(self.data(name))
        data[at] ^= mask
        self.put(name, bytes(data))

    def index(self, number: int) -> str:
        return "packs/" + catalogue.load(self.lab.repository, self.ids[number]).manifest.index.name

    def manifest(self, number: int) -> str:
        return f"snapshots/{self.ids[number]}.json"

    def needs(self, number: int, name: str) -> bool:
        """Whether a snapshot needs an object."""
        return name in (*self.packs[number], self.manifest(number)) or name.startswith(f"packs/{self.ids[number]}/index-")

    def check(self, tmp_path: Path, *names: str) -> None:
        """After these were damaged: all snapshots that need one say so, by its name; others are whole; no restore is wrong."""
        for number, snapshot in enumerate(self.ids):
            verified = self.lab.verify(snapshot)
            wanted = {name for name in names if self.needs(number, name)}
            assert set(verified.damage) == wanted
            assert (verified.receipt is None) == bool(wanted)
            hurt = {self.ids[other] for other in range(3) for name in wanted if self.needs(other, name)}
            assert set(verified.hurt) >= hurt
            self.restore(number, tmp_path, must_work=not wanted)

    def restore(self, number: int, tmp_path: Path, *, must_work: bool = False) -> bool:
        """Whether a restore says that it worked; then it must have."""
        target = tmp_path / f"out-{number}"
        try:
            self.lab.restore(target, self.ids[number])
        except TorporError:
            assert not must_work
            return False
        else:
            assert compare_trees(self.trees[number], target) == []
            return True
        finally:
            shutil.rmtree(target, ignore_errors=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    folder = tmp_path_factory.mktemp("vault")
    lab, root = Lab(folder / "lab"), folder / "workspace"
    ids, trees = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torpor.hibernate.packer.PACK_TARGET", MIB)  # so that there are several of a class
        for number in range(3):
            write(root / f"code/{number}.py", text(3000, number))
            write(root / f"small-{number}.bin", noise(9000, number))
            write(root / f"weights-{number}", weights("bf16", 5 * MIB // 2, number))
            write(root / f"random-{number}", noise(MIB + 77, number))
            nasty.sparse(os.fsencode(root / f"holes-{number}"), 3 * MIB, (MIB, b"data"))
            (root / f"link-{number}").symlink_to("code")
            nasty.age(os.fsencode(root))
            ids.append(lab.take(root).snapshot.id)
            trees.append(folder / f"tree-{number}")
            lab.restore(trees[-1])
    for snapshot in ids:
        lab.verify(snapshot)
    packs = [[f"packs/{p.name}" for p in heads.head_of(lab.repository, catalogue.load(lab.repository, s).manifest).packs] for s in ids]
    assert len(set(packs[0]) & set(packs[1]) & set(packs[2])) >= 3
    shutil.copytree(lab.folder / "home", lab.folder / "home.kept")
    return Vault(lab, ids, packs, trees, dict(lab.memory.objects))


@pytest.fixture
def vault(built: Vault) -> Iterator[Vault]:
    yield built
    built.lab.memory.objects = dict(built.whole)
    shutil.rmtree(built.lab.folder / "home")  # with pins of what a test has made
    shutil.copytree(built.lab.folder / "home.kept", built.lab.folder / "home")


# one flipped bit


def _places(data: bytes) -> dict[str, int]:
    """A byte of each part of a pack."""
    header = pack.parse_header(data, "pack")
    return {
        "magic": 0, "version": 8, "class": 10, "zero": 11, "count": 12, "table offset": 16, "table length": 20, "zeros": 27, "salt": 33,
        "last of the salt": 63, "first of a chunk": 64, "middle of the chunks": (64 + header.table_offset) // 2,
        "last of the chunks": header.table_offset - 1, "first of the table": header.table_offset,
        "middle of the table": (header.table_offset + len(data)) // 2, "last byte": len(data) - 1,
    }  # fmt: skip


PLACES = (
    "magic", "version", "class", "zero", "count", "table offset", "table length", "zeros", "salt", "last of the salt", "first of a chunk",
    "middle of the chunks", "last of the chunks", "first of the table", "middle of the table", "last byte",
)  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_bit_of_a_pack(vault: Vault, tmp_path: Path, place: str) -> None:
    """Of every class: code, bundles, large files (planes, raw)."""
    seen = set()
    for name in vault.packs[1]:
        data = vault.data(name)
        if data[10] not in seen or place.endswith("chunk"):
            seen.add(data[10])
            vault.flip(name, _places(data)[place], 0x80)
            vault.check(tmp_path, name)
            vault.put(name, data)
    assert seen == {1, 2, 3}


def _index_places(data: bytes) -> dict[str, int]:
    head = index.parse_head(data, "index")
    names = 32 + 24 * len(head.sections)
    places = {
        "magic": 1, "version": 8, "zero": 10, "head length": 12, "sections": 16, "packs": 20, "names length": 24, "zeros": 28,
        "kind": 32, "rows": 36, "sealed": 40, "raw": 44, "offset": 48, "name length": names, "a name": names + 2 * len(head.packs),
        "a digest": head.size - 105 * len(head.packs) + 9 * len(head.packs), "last of the head": head.size - 1, "last byte": len(data) - 1,
    }  # fmt: skip
    for number, section in enumerate(head.sections):
        places[f"section {number}"] = section.offset + section.sealed // 2
    return places


def test_a_bit_of_an_index(vault: Vault, tmp_path: Path) -> None:
    name = vault.index(1)
    places = _index_places(vault.data(name))
    assert len(places) >= 21
    for at in places.values():
        vault.flip(name, at)
        vault.check(tmp_path, name)
        vault.put(name, vault.data(name))


def test_any_bit_of_a_manifest(vault: Vault, tmp_path: Path) -> None:
    """Every byte, each in another bit: no other snapshot is made, restored, or pruned by it."""
    name = vault.manifest(1)
    for at in range(len(vault.data(name))):
        vault.flip(name, at, 1 << at % 8)
        verified = vault.lab.verify(vault.ids[1])
        assert name in verified.damage, at
        assert verified.hurt == [vault.ids[1]]
        assert not vault.restore(1, tmp_path)
    vault.flip(name, 100)
    vault.check(tmp_path, name)
    with pytest.raises(Damaged, match="nobody knows what it needs"):
        prune.prune(vault.lab.repository)


def test_any_bit_of_the_configuration(vault: Vault) -> None:
    """Not even by a computer that has no keys to compare it with."""
    key = vault.lab.recovery_key
    for at in range(len(vault.data("config.json"))):
        for mask in (0x01, 0x80):
            vault.flip("config.json", at, mask)
            for home, known in {"home": "", "empty": "", "new": key}.items():
                with pytest.raises((Damaged, Malformed)) as caught:
                    vault.lab.open(home, TORPOR_RECOVERY_KEY=known)
                assert "config.json" in caught.value.what


def test_any_bit_of_the_wrapped_keys(vault: Vault) -> None:
    """The recovery key opens the keys that were wrapped, or nothing."""
    (name,) = [name for name in vault.whole if name.startswith("keys/")]
    key, right = vault.lab.recovery_key, vault.lab.repository.private().private
    for at in range(len(vault.data(name))):
        vault.flip(name, at)
        try:
            found = vault.lab.open("another", TORPOR_RECOVERY_KEY=key).private().private
        except TorporError:
            continue
        assert (found.sign, found.box, found.root) == (right.sign, right.box, right.root)
    assert vault.lab.open("home").keys is not None  # who has the keys does not need them


def test_a_bit_of_a_receipt(vault: Vault) -> None:
    """It proves nothing any more; nothing else depends on it."""
    for name in [name for name in vault.whole if name.startswith(f"receipts/{vault.ids[2]}/")]:
        vault.flip(name, 50)
    assert vault.lab.verify(vault.ids[2]).damage == {}
    taken = vault.lab.take(vault.trees[2], machine="b")
    assert vault.lab.verify(taken.snapshot.id).damage == {}


def test_a_bit_of_a_mark_or_a_claim_stops_prune(vault: Vault) -> None:
    vault.lab.remove(vault.ids[0])
    prune.mark(vault.lab.repository)
    (name,) = vault.lab.objects("marks/")
    before = dict(vault.objects)
    data = bytearray(before[name].data)
    data[40] ^= 1
    vault.objects[name] = before[name]._replace(data=bytes(data))
    packs = vault.lab.objects("packs/")
    with pytest.raises(Damaged, match="marks/"):
        prune.prune(vault.lab.repository, grace=0)
    del vault.objects[name]
    vault.objects["claims/" + name[len("marks/") :]] = vault.objects[vault.manifest(1)]
    with pytest.raises(TorporError, match="claims/"):
        prune.prune(vault.lab.repository, grace=0)
    assert vault.lab.objects("packs/") == packs


# whole objects


CUTS: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda data: None,
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "half": lambda data: data[: len(data) // 2],
    "all but a byte": lambda data: data[:-1],
    "a byte more": lambda data: data + b"\0",
    "twice": lambda data: data + data,
    "zeros": lambda data: bytes(len(data)),
    "noise": lambda data: noise(len(data), 3),
    "from its second byte": lambda data: data[1:] + b"\0",
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", ["pack", "index", "manifest"])
def test_an_object_that_is_not_what_it_was(vault: Vault, tmp_path: Path, kind: str, cut: str) -> None:
    shared = [name for name in vault.packs[1] if name in vault.packs[0]]
    name = {"pack": shared[0], "index": vault.index(1), "manifest": vault.manifest(1)}[kind]
    data = CUTS[cut](vault.data(name))
    if data is not None:
        vault.put(name, data)
        vault.check(tmp_path, name)
        return
    del vault.objects[name]
    if kind != "manifest":
        vault.check(tmp_path, name)
        return
    with pytest.raises(NotFound):
        vault.lab.verify(vault.ids[1])
    vault.restore(0, tmp_path, must_work=True)
    vault.restore(2, tmp_path, must_work=True)


def test_two_packs_that_changed_places(vault: Vault, tmp_path: Path) -> None:
    """Of one size or not, of one snapshot or two."""
    names = vault.packs[2]
    pairs = [(one, two) for number, one in enumerate(names) for two in names[number + 1 :]]
    alike = [pair for pair in pairs if len(vault.data(pair[0])) == len(vault.data(pair[1]))]
    assert alike
    for one, two in [*alike[:3], pairs[0], (names[0], names[-1])]:
        vault.put(one, vault.data(two))
        vault.put(two, vault.data(one))
        vault.check(tmp_path, one, two)
        vault.put(one, vault.data(one))
        vault.put(two, vault.data(two))


@pytest.mark.parametrize("kind", ["index", "manifest"])
@pytest.mark.parametrize(("here", "there"), [(0, 1), (1, 0), (2, 0)])
def test_one_of_another_snapshot(vault: Vault, tmp_path: Path, kind: str, here: int, there: int) -> None:
    name = getattr(vault, kind)(here)
    vault.put(name, vault.data(getattr(vault, kind)(there)))
    vault.check(tmp_path, name)


def test_an_older_state_of_the_store_is_noticed(vault: Vault) -> None:
    """Somebody put back what was there before the newest snapshot."""
    for name in (vault.manifest(2), vault.index(2)):
        del vault.objects[name]
    with pytest.raises(Damaged, match="is gone from"):
        vault.lab.take(vault.trees[2], machine="b")


@pytest.mark.parametrize("kind", ["pack", "index", "manifest"])
def test_damage_does_not_stop_the_next_snapshot(vault: Vault, tmp_path: Path, kind: str) -> None:
    """What is damaged and found so is not built on: the bytes, which are still on the machine, are stored anew."""
    root = tmp_path / "workspace"
    shutil.copytree(vault.trees[2], root, symlinks=True)
    first = vault.lab.take(root).snapshot
    head = heads.head_of(vault.lab.repository, first.manifest)
    name = {"pack": f"packs/{head.packs[0].name}", "index": f"packs/{first.manifest.index.name}", "manifest": f"snapshots/{first.id}.json"}[
        kind
    ]
    with _damaged(vault, name, cut=kind == "pack"):
        taken = vault.lab.take(root)
        assert vault.lab.verify(taken.snapshot.id).damage == {}
        vault.lab.restore(tmp_path / "out", taken.snapshot.id)
        assert compare_trees(root, tmp_path / "out") == []


@contextmanager
def _damaged(vault: Vault, name: str, *, cut: bool) -> Iterator[None]:
    data = bytearray(vault.objects[name].data)
    data[len(data) // 2] ^= 1
    vault.objects[name] = vault.objects[name]._replace(data=bytes(data[:-1] if cut else data))
    yield


def test_a_verified_sample_sees_the_newest_pack(vault: Vault) -> None:
    """`sample` reads some packs back, the last always; `presence` reads none and says so in its receipt."""
    newest = vault.packs[2][-1]
    vault.flip(newest, 100)
    assert newest in vault.lab.verify(vault.ids[2], "sample").damage
    verified = vault.lab.verify(vault.ids[2], "presence")
    assert (verified.damage, verified.read_packs) == ({}, 0)
    assert verified.receipt is not None
    assert verified.receipt.depth == "presence"
