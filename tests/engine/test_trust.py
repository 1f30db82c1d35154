"""Whom the next snapshot believes: nobody's chunks but those that this machine wrote or checked itself, or that were read back in full.

A hostile rental is played by the real engine with one lie in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from blake3 import blake3

from tests.engine.lab import Lab, same, write
from torpor.control import catalogue, claims, heads, marks, prune, receipts, repository
from torpor.errors import ClaimLost, Damaged, Malformed, NotFound, RollbackSuspected
from torpor.events import Listener
from torpor.format import crypto, envelope, names
from torpor.format.chunks import ChunkList
from torpor.hibernate.tools import Shared
from torpor.jobs import Granter, Job, Result
from torpor.remote.host import InProcess
from torpor.settings import load
from torpor.storage.memory import MemoryStore, Object

MIB = 1 << 20
SMALL, LARGE = 300_000, 3 * MIB


class Lying(InProcess):
    """A rental whose engine lies while it runs a job."""

    def __init__(self, lie: Callable[[], object]) -> None:
        self.lie = lie

    def run(self, job: Job, listen: Listener, ask: Granter | None = None) -> Result:
        with self.lie():  # type: ignore[attr-defined]
            return super().run(job, listen, ask)


@contextmanager
def hashes(lies: dict[bytes, bytes]) -> Iterator[None]:
    """The id of the bytes on the left is told as that of the bytes on the right."""
    true, true_all = Shared.hash, Shared.hash_all

    def false(self: Shared, data: memoryview | bytes) -> bytes:
        return true(self, lies.get(bytes(data), data))

    def false_all(self: Shared, data: memoryview, offsets: Sequence[int], lengths: Sequence[int]) -> list[bytes]:
        return [false(self, data[at : at + size]) for at, size in zip(offsets, lengths, strict=True)]

    Shared.hash, Shared.hash_all = false, false_all  # type: ignore[method-assign]
    try:
        yield
    finally:
        Shared.hash, Shared.hash_all = true, true_all  # type: ignore[method-assign]


@contextmanager
def renamed(old: bytes, new: bytes) -> Iterator[None]:
    """A chunk in the store is called by another id in the index."""
    true = ChunkList.append

    def false(self: ChunkList, pack: int, number: int, offset: int, sealed: int, raw: int, codec: int, id: bytes) -> int:
        return true(self, pack, number, offset, sealed, raw, codec, new if id == old else id)

    ChunkList.append = false  # type: ignore[method-assign]
    try:
        yield
    finally:
        ChunkList.append = true  # type: ignore[method-assign]


def packs_of(lab: Lab, snapshot: str) -> set[str]:
    return {pack.name for pack in heads.head_of(lab.repository, catalogue.load(lab.repository, snapshot).manifest).packs}


def restored(lab: Lab, snapshot: str, folder: Path, machine: str = "fresh") -> Path:
    lab.restore(folder, snapshot, machine=machine)
    return folder


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "lab")


# A chunk with the right id and the wrong bytes.


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_planted_chunk_is_used_by_nobody_else(lab: Lab, tmp_path: Path, size: int) -> None:
    """A hostile rental stores garbage under the id of what others will have, in the lineage they share."""
    wanted, garbage = os.urandom(size), os.urandom(size)
    honest = tmp_path / "honest"
    write(honest / "first", b"what all begin with")
    first = lab.take(honest, machine="honest").snapshot

    hostile = restored(lab, first.id, tmp_path / "hostile", "hostile")
    write(hostile / "model", garbage)
    lab.host = Lying(lambda: hashes({garbage: wanted}))
    second = lab.take(hostile, machine="hostile").snapshot
    lab.host = InProcess()
    assert second.manifest.lineage == first.manifest.lineage

    write(honest / "model", wanted)
    third = lab.take(honest, machine="honest").snapshot
    assert third.manifest.parent == second.id
    assert not packs_of(lab, third.id) & (packs_of(lab, second.id) - packs_of(lab, first.id))
    same(honest, restored(lab, third.id, tmp_path / "right"))
    with pytest.raises(Damaged):
        lab.restore(tmp_path / "wrong", second.id)
    assert lab.verify(second.id).damage
    assert lab.verify(third.id).damage == {}


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("verified", [False, True])
def test_what_was_only_compared_is_stored_again(lab: Lab, tmp_path: Path, size: int, verified: bool) -> None:
    """After a merge that found the bytes in place, nobody has seen what the store holds: unless it was read back in full."""
    source = tmp_path / "source"
    write(source / "model", os.urandom(size))
    first = lab.take(source).snapshot
    target = tmp_path / "target"
    write(target / "model", (source / "model").read_bytes())
    assert lab.restore(target, first.id, machine="b", mode="merge").fetched_bytes == 0
    if verified:
        assert lab.verify(first.id, "full").receipt is not None
    else:
        assert lab.verify(first.id, "presence").receipt is not None
    second = lab.take(target, machine="b").snapshot
    shared = packs_of(lab, first.id) & packs_of(lab, second.id)
    assert bool(shared) is verified
    assert (second.manifest.new_bytes > size) is not verified
    same(target, restored(lab, second.id, tmp_path / "again"))


def test_a_planted_chunk_that_was_only_compared(lab: Lab, tmp_path: Path) -> None:
    wanted, garbage = os.urandom(LARGE), os.urandom(LARGE)
    hostile = tmp_path / "hostile"
    write(hostile / "model", garbage)
    lab.host = Lying(lambda: hashes({garbage: wanted}))
    first = lab.take(hostile, machine="hostile").snapshot
    lab.host = InProcess()
    assert lab.verify(first.id).receipt is None
    target = tmp_path / "target"
    write(target / "model", wanted)
    lab.restore(target, first.id, machine="b", mode="merge")
    second = lab.take(target, machine="b").snapshot
    assert not packs_of(lab, first.id) & packs_of(lab, second.id)
    same(target, restored(lab, second.id, tmp_path / "right"))


@pytest.mark.parametrize("size", [SMALL, 1_500_000])
def test_a_bundle_that_goes_by_a_false_name(lab: Lab, tmp_path: Path, size: int) -> None:
    """The files in a bundle are what they should be, the bundle as a whole is called by another's id. A restore checks the files."""
    wanted = os.urandom(size)
    hostile = tmp_path / "hostile"
    pieces = [os.urandom(size // 5) for _ in range(5)]
    for number, piece in enumerate(pieces):
        write(hostile / f"{number}.bin", piece)
    lab.host = Lying(lambda: hashes({b"".join(pieces): wanted}))
    first = lab.take(hostile, machine="hostile").snapshot
    lab.host = InProcess()
    assert first.manifest.chunks == 1
    target = restored(lab, first.id, tmp_path / "target", "b")
    write(target / "model", wanted)
    second = lab.take(target, machine="b").snapshot
    same(target, restored(lab, second.id, tmp_path / "right"))
    assert lab.verify(second.id).damage.keys() <= {f"packs/{name}" for name in packs_of(lab, first.id)}


def test_a_receipt_does_not_cover_what_another_index_says(lab: Lab, tmp_path: Path) -> None:
    """A hostile index calls a chunk of a good pack by a false id. That pack was read back in full, for a good index."""
    true, wanted = os.urandom(LARGE), os.urandom(LARGE)
    honest = tmp_path / "honest"
    write(honest / "model", true)
    first = lab.take(honest, machine="honest").snapshot
    key = crypto.id_key(lab.repository.private().private.root, first.manifest.lineage)

    hostile = restored(lab, first.id, tmp_path / "hostile", "hostile")
    lab.host = Lying(lambda: renamed(blake3(true, key=key).digest(), blake3(wanted, key=key).digest()))
    second = lab.take(hostile, machine="hostile").snapshot
    lab.host = InProcess()
    assert packs_of(lab, second.id) == packs_of(lab, first.id)

    third = lab.take(honest, machine="honest").snapshot
    assert lab.verify(third.id, "full").receipt is not None
    target = tmp_path / "target"
    write(target / "model", wanted)
    lab.restore(target, second.id, machine="b", mode="merge")
    fourth = lab.take(target, machine="b").snapshot
    same(target, restored(lab, fourth.id, tmp_path / "right"))


def test_keys_of_reused_packs_outlive_their_snapshot(lab: Lab, tmp_path: Path) -> None:
    source = tmp_path / "source"
    write(source / "model", os.urandom(LARGE))
    first = lab.take(source).snapshot
    write(source / "more", b"a little more")
    second = lab.take(source).snapshot
    assert packs_of(lab, first.id) < packs_of(lab, second.id)
    lab.remove(first.id)
    lab.prune(grace=0)
    lab.prune(grace=0)
    assert lab.check_all() == [second.id]
    same(source, restored(lab, second.id, tmp_path / "again"))


# Forgery.


def put(lab: Lab, name: str, data: bytes) -> None:
    lab.memory.objects[name] = Object(data, 1.0, b"")


def all_signed(lab: Lab, tmp_path: Path) -> dict[str, bytes]:
    """One object of each kind, by context."""
    source = tmp_path / "source"
    write(source / "file", os.urandom(1000))
    first, second = lab.take(source).snapshot, lab.take(source).snapshot
    lab.verify(second.id)
    lab.remove(first.id)
    prune.mark(lab.repository)
    claim = lab.repository.sign("claim", claims.new(lab.repository, second.id, second.manifest.lineage, [], []))
    found = {"manifest": lab.store.get(names.manifest(second.id)), "claim": claim, "config": lab.store.get(names.CONFIG)}
    for context, prefix in (("receipt", names.RECEIPTS), ("mark", names.MARKS), ("removal", names.REMOVED)):
        found[context] = lab.store.get(min(lab.objects(prefix)))
    return found


READERS: dict[str, Callable[[Lab, str], object]] = {
    "manifest": lambda lab, snapshot: catalogue.load(lab.repository, snapshot),
    "receipt": lambda lab, snapshot: receipts.load_all(lab.repository, snapshot),
    "claim": lambda lab, snapshot: claims.live(lab.repository),
    "mark": lambda lab, snapshot: marks.load_all(lab.repository),
    "removal": lambda lab, snapshot: catalogue.removed_on_purpose(lab.repository, snapshot),
    "config": lambda lab, snapshot: lab.open("home"),
}


def test_forged_objects_are_not_believed(lab: Lab, tmp_path: Path) -> None:
    """By another key, of another repository, signed as something else, or with one byte changed."""
    genuine = all_signed(lab, tmp_path)
    snapshot = catalogue.ids(lab.repository)[-1]
    other = Lab(tmp_path / "other").repository
    places = {
        "manifest": names.manifest(snapshot), "receipt": f"{names.RECEIPTS}{snapshot}/20990101T000000000.json",
        "claim": names.claim(snapshot), "mark": f"{names.MARKS}20990101T000000000-00000000.json", "removal": names.removed(snapshot),
        "config": names.CONFIG,
    }  # fmt: skip
    before = dict(lab.memory.objects)
    tried: list[str] = []
    for context, read in READERS.items():
        payload = envelope.split(genuine[context], context)[0]
        forged = {
            "another key": envelope.wrap(context, lab.repository.id, payload, other.private().id, other.private().private.sign),
            "its key id": envelope.wrap(context, lab.repository.id, payload, lab.repository.private().id, other.private().private.sign),
            "another repository": envelope.wrap(
                context, other.id, payload, lab.repository.private().id, lab.repository.private().private.sign
            ),
            "a changed byte": genuine[context].replace(b'"format":1', b'"format":1 ', 1),
        } | {f"a {kind}": data for kind, data in genuine.items() if kind != context}
        for what, data in forged.items():
            put(lab, places[context], data)
            with pytest.raises((Damaged, Malformed)):
                read(lab, snapshot)
            tried.append(f"{context}: {what}")
            lab.memory.objects.clear()
            lab.memory.objects.update(before)
    assert len(tried) == 6 * 9


def test_objects_under_anothers_name_are_not_believed(lab: Lab, tmp_path: Path) -> None:
    """Signed by the right key, put in another's place by who can write to the bucket."""
    source = tmp_path / "source"
    write(source / "file", b"x")
    first, second = lab.take(source).snapshot, lab.take(source).snapshot
    for snapshot in (first, second):
        lab.verify(snapshot.id)
    signed = {s.id: lab.repository.sign("claim", claims.new(lab.repository, s.id, s.manifest.lineage, [], [])) for s in (first, second)}
    put(lab, names.claim(second.id), signed[first.id])
    with pytest.raises(Malformed):
        claims.live(lab.repository)
    with pytest.raises(ClaimLost):
        claims.check(lab.repository, claims.new(lab.repository, second.id, second.manifest.lineage, [], []))
    lab.store.delete([names.claim(second.id)])
    (receipt,) = lab.objects(f"{names.RECEIPTS}{first.id}/")
    put(lab, receipt.replace(first.id, second.id), lab.store.get(receipt))
    with pytest.raises(Malformed):
        receipts.load_all(lab.repository, second.id)
    put(lab, names.manifest(second.id), lab.store.get(names.manifest(first.id)))
    with pytest.raises(Malformed):
        catalogue.load(lab.repository, second.id)


# Rollback.


def test_a_newest_snapshot_that_vanished_is_an_alarm(lab: Lab, tmp_path: Path) -> None:
    source = tmp_path / "source"
    write(source / "file", b"x")
    lab.take(source)
    second = lab.take(source).snapshot
    kept = lab.memory.objects.pop(names.manifest(second.id))
    before = lab.objects()
    with pytest.raises(RollbackSuspected, match=second.id):
        lab.take(source)
    assert lab.objects() == before
    put(lab, names.manifest(second.id), kept.data)
    assert lab.take(source).snapshot.manifest.parent == second.id


def test_what_was_committed_since_the_list_was_read_is_no_loss(lab: Lab, tmp_path: Path) -> None:
    """Pinned and verified by a snapshot that ends at this moment."""
    write(tmp_path / "source" / "file", b"x")
    lab.take(tmp_path / "source")
    lab.verify()
    catalogue.check_pins(lab.repository, [])
    catalogue.check_lost(lab.repository, [])


def test_a_removal_by_another_control_side_is_none(lab: Lab, tmp_path: Path) -> None:
    source = tmp_path / "source"
    write(source / "file", b"x")
    lab.take(source)
    second = lab.take(source).snapshot
    elsewhere = lab.open("another home", TORPOR_RECOVERY_KEY=lab.recovery_key)
    prune.remove(elsewhere, second.id)
    assert lab.take(source).snapshot.manifest.generation == 2


def test_a_removal_of_another_snapshot_does_not_hide_a_loss(lab: Lab, tmp_path: Path) -> None:
    source = tmp_path / "source"
    write(source / "file", b"x")
    first, second = lab.take(source).snapshot, lab.take(source).snapshot
    lab.remove(first.id)
    del lab.memory.objects[names.manifest(second.id)]
    put(lab, names.removed(second.id), lab.store.get(names.removed(first.id)))
    with pytest.raises(RollbackSuspected):
        lab.take(source)


def test_an_empty_store_at_a_known_place_is_a_new_repository(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    old = lab.repository.id
    lab.memory.objects.clear()
    with pytest.raises(NotFound):
        lab.open("home")
    told: list[str] = []
    found = repository.open_repository(load({"TORPOR_HOME": str(tmp_path / "lab/home")}, lab.store.url), create=True, note=told.append)
    assert found.created
    assert found.id != old
    assert len(told) == 1
    assert old[:8] in told[0]


@pytest.mark.parametrize("kept", ["snapshots/", "packs/"])
def test_a_store_that_lost_its_configuration_is_no_new_repository(lab: Lab, tmp_path: Path, kept: str) -> None:
    write(tmp_path / "source" / "file", b"x")
    lab.take(tmp_path / "source")
    for name in [name for name in lab.memory.objects if not name.startswith(kept)]:
        del lab.memory.objects[name]
    with pytest.raises(Damaged, match=r"config\.json"):
        lab.open("home", create=True)


def test_a_configuration_of_other_keys_is_not_believed(lab: Lab, tmp_path: Path) -> None:
    """Whoever owns the bucket puts a repository of their own in its place: same id, their keys."""
    other = Lab(tmp_path / "other", store=MemoryStore()).repository
    config = envelope.split(lab.store.get(names.CONFIG), "x")[0].replace(lab.repository.private().id.encode(), other.private().id.encode())
    theirs = envelope.split(other.store.get(names.CONFIG), "x")[0].replace(other.id.encode(), lab.repository.id.encode())
    for payload in (config, theirs):
        data = envelope.wrap("config", lab.repository.id, payload, other.private().id, other.private().private.sign)
        put(lab, names.CONFIG, data)
        with pytest.raises(Damaged):
            lab.open("home")
        with pytest.raises(Damaged):
            lab.open("home", create=True)
