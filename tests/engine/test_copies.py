"""Copies: the destination is a repository that restores by itself, whatever cut the copying short."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.twins import Twins, contents
from torpor.control import catalogue, claims, copylist, prune, receipts
from torpor.control.repository import open_repository
from torpor.errors import Damaged, Interrupted, RollbackSuspected, UsageError
from torpor.events import ignore
from torpor.format import names
from torpor.settings import load
from torpor.storage.base import Store
from torpor.storage.memory import MemoryStore
from torpor.storage.rate import Rate
from torpor.testing.faults import Crash, CrashStore, FaultyStore

WHOLE = ("packs/", "snapshots/", "receipts/", "keys/", "config.json")


@pytest.fixture(params=["memory", "local"])
def twins(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Twins:
    return Twins(tmp_path, monkeypatch, request.param)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Twins:
    return Twins(tmp_path, monkeypatch, "memory")


def _through(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """Let the destination be reached through a wrapper."""
    monkeypatch.setattr("torpor.control.destination.open_store", lambda url, access: store)


def test_a_copy_restores_by_itself(twins: Twins) -> None:
    twins.lab.verify()
    found = twins.copy()
    assert contents(twins.other, *WHOLE) == contents(twins.first, *WHOLE)
    assert contents(twins.other, "claims/") == {}
    assert (found.objects, found.receipts, found.new_repository, found.new_snapshot) == (len(twins.packs(twins.first)) + 1, 1, True, True)
    assert found.bytes == sum(info.size for info in twins.first.list("packs/"))
    for name in twins.packs(twins.first):
        twins.first.delete([name])
    alone = twins.at(twins.other, "a new computer")
    twins.restore(alone)
    assert receipts.verify(alone, twins.snapshot, "full", ignore).damage == {}


def test_what_is_there_is_not_sent_again(twins: Twins) -> None:
    first = twins.copy()
    before = contents(twins.other)
    again = twins.copy()
    assert (again.objects, again.bytes, again.kept_objects, again.kept_bytes) == (0, 0, first.objects, first.bytes)
    assert contents(twins.other) == before
    twins.other.delete(twins.packs(twins.other)[:2])
    assert twins.copy().objects == 2
    (twins.root / "code" / "new.py").write_text("x" * 5000)
    second = twins.lab.take(twins.root).snapshot.id
    assert twins.copy(second).kept_objects == len(twins.packs(twins.first)) - 1
    assert catalogue.ids(twins.at(twins.other)) == [twins.snapshot, second]


def test_a_dry_run_writes_nothing(twins: Twins) -> None:
    before = contents(twins.first)
    plan = twins.copy(dry_run=True)
    assert contents(twins.other) == {}
    assert contents(twins.first) == before
    done = twins.copy()
    assert (plan.objects, plan.bytes, plan.new_repository) == (done.objects, done.bytes, True)
    assert twins.copy(dry_run=True).objects == 0


def test_wherever_it_dies(memory: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest there means that all of it is there; and a copy after that ends well, and sends no pack twice."""
    counting = CrashStore(memory.other)
    _through(monkeypatch, counting)
    memory.copy(workers=1)
    points = counting.count
    assert points > 20
    for at in range(1, points + 1, 5):
        for after in (False, True):
            store = MemoryStore()
            _through(monkeypatch, CrashStore(store, at, after=after))
            with pytest.raises(Crash):
                memory.copy(workers=1)
            sent = set(memory.packs(store))
            if store.head(names.manifest(memory.snapshot)):
                assert contents(store, "packs/") == contents(memory.first, "packs/")
            _through(monkeypatch, store)
            found = memory.copy()
            assert found.kept_objects >= len(sent)
            assert contents(store, *WHOLE) == contents(memory.first, *WHOLE)


def test_ctrl_c_says_what_is_kept(memory: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(operation: str, name: str, number: int) -> BaseException | None:
        return Interrupted("Ctrl-C") if operation == "put" and len(memory.packs(memory.other)) == 3 else None

    _through(monkeypatch, FaultyStore(memory.other, script))
    with pytest.raises(Interrupted) as caught:
        memory.copy(workers=1)
    assert caught.value.safe.startswith("3 objects were copied to ")
    assert memory.other.head(names.manifest(memory.snapshot)) is None
    _through(monkeypatch, memory.other)
    assert memory.copy().kept_objects == 3


@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_a_damaged_pack_is_not_copied(twins: Twins, harm: str) -> None:
    bad = twins.packs(twins.first)[2]
    if harm == "flip":
        twins.flip(twins.first, bad)
    elif harm == "cut":
        twins.first.put(bad, twins.first.get(bad)[:-1])
    else:
        twins.first.delete([bad])
    with pytest.raises(Damaged, match=bad):
        twins.copy()
    assert twins.other.head(names.manifest(twins.snapshot)) is None
    assert set(twins.packs(twins.other)) == {*twins.packs(twins.first)} - {bad}


def test_a_damaged_store_is_mended_from_its_copy(twins: Twins) -> None:
    """Back, and also on: what one place lacks is taken from another."""
    whole = contents(twins.first, "packs/")
    twins.copy()
    lost, changed = twins.packs(twins.first)[1:3]
    twins.first.delete([lost])
    twins.flip(twins.first, changed)
    third = MemoryStore()
    assert twins.copy(to=third).objects == len(whole)
    assert contents(third, "packs/") == whole
    back = twins.copy(repository=twins.at(twins.other), to=twins.first, reread=True)
    assert (back.objects, back.replaced) == (2, 1)
    assert contents(twins.first, "packs/") == whole
    assert twins.lab.verify().damage == {}


def test_what_is_no_place_for_a_copy(twins: Twins, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is where the snapshot is"):
        twins.copy(to=twins.first)
    stranger = load({"TORPOR_HOME": str(tmp_path / "stranger")}, twins.other.url)
    open_repository(stranger, create=True)
    before = contents(twins.other)
    with pytest.raises(UsageError, match="holds another repository"):
        twins.copy()
    assert contents(twins.other) == before
    twins.other.delete(["config.json"])
    twins.other.put(f"packs/{twins.snapshot}/00000000-0", b"x")
    with pytest.raises(Damaged, match="its configuration was lost"):
        twins.copy()


def test_a_prune_there_leaves_a_copy_alone(memory: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[prune.Report] = []

    def script(operation: str, name: str, number: int) -> BaseException | None:
        if operation == "put" and name.startswith(names.SNAPSHOTS):
            reports.append(prune.mark(memory.at(memory.other)))
        return None

    _through(monkeypatch, FaultyStore(memory.other, script))
    memory.copy()
    assert [len(report.marked) for report in reports] == [0]
    assert claims.live(memory.at(memory.other)) == {}


def test_what_a_prune_there_has_marked_is_not_built_on(memory: Twins) -> None:
    memory.copy()
    there = memory.at(memory.other)
    prune.remove(there, memory.snapshot)
    assert prune.mark(there).marked
    with pytest.raises(Damaged, match=r"A prune at .* has marked what the copy needs"):
        memory.copy()
    assert memory.other.head(names.manifest(memory.snapshot)) is None
    claims.release(there, memory.snapshot)
    prune.prune(there, grace=0)
    assert memory.packs(memory.other) == []
    memory.copy()
    assert contents(memory.other, "packs/") == contents(memory.first, "packs/")
    assert contents(memory.other, "removed/") == {}


def test_all_bytes_pass_the_limit(memory: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    monkeypatch.setattr(Rate, "take", lambda rate, count: steps.append(count))
    memory.copy(rate=1000)
    assert sum(steps) == sum(info.size for info in memory.first.list("packs/") if "/index-" not in info.name)


def test_where_copies_are_is_known_to_others(memory: Twins) -> None:
    memory.copy()
    memory.copy()
    (record,) = contents(memory.first, "copies/")
    elsewhere = memory.lab.open("another computer", TORPOR_RECOVERY_KEY=memory.lab.recovery_key)
    assert copylist.urls_of(elsewhere, memory.snapshot) == [memory.other.url]
    named = memory.lab.open("a third", TORPOR_RECOVERY_KEY=memory.lab.recovery_key, TORPOR_COPIES=f"/tmp/x, {memory.other.url},")
    assert copylist.urls_of(named, memory.snapshot) == ["file:///tmp/x", memory.other.url]
    memory.flip(memory.first, record)
    assert copylist.urls_of(elsewhere, memory.snapshot) == []
    prune.remove(memory.lab.repository, memory.snapshot)
    assert contents(memory.first, "copies/") == {}


def test_pins_hold_for_what_was_copied(memory: Twins) -> None:
    """A store of copies need not have what was never copied to it; what was, is missed."""
    memory.copy()
    (memory.root / "new").write_text("x")
    newer = memory.lab.take(memory.root).snapshot.id
    there = memory.at(memory.other)
    catalogue.check_pins(there, catalogue.ids(there))
    memory.copy(newer)
    catalogue.check_pins(there, catalogue.ids(there))
    memory.other.delete([names.manifest(newer)])
    with pytest.raises(RollbackSuspected):
        catalogue.check_pins(there, catalogue.ids(there))
    memory.first.delete([names.manifest(newer)])
    with pytest.raises(RollbackSuspected):
        catalogue.check_pins(memory.lab.repository, catalogue.ids(memory.lab.repository))


def test_reading_a_copy_does_not_make_the_first_one_forgettable(memory: Twins) -> None:
    """Even where the first store holds copies too: what was seen there is missed there."""
    memory.copy()
    there = memory.at(memory.other)
    memory.copy(repository=there, to=memory.first)
    (memory.root / "new").write_text("x")
    newer = memory.lab.take(memory.root).snapshot.id
    memory.copy(newer)
    catalogue.pin(there, catalogue.load(there, newer))
    memory.first.delete([names.manifest(newer)])
    with pytest.raises(RollbackSuspected):
        catalogue.check_pins(memory.lab.repository, catalogue.ids(memory.lab.repository))


def test_receipts_go_with_packs_that_were_read_alone(twins: Twins) -> None:
    """What is there by name and size is not proven by what was read elsewhere."""
    assert twins.lab.verify(twins.snapshot).receipt is not None
    twins.copy()
    rotten = min(twins.packs(twins.other))
    data = bytearray(twins.other.get(rotten))
    data[len(data) // 2] ^= 1
    twins.other.put(rotten, bytes(data))
    receipts_there = [info.name for info in twins.other.list("receipts/")]
    twins.other.delete([f"snapshots/{twins.snapshot}.json", *receipts_there])
    again = twins.copy()
    assert again.receipts == 0
    assert any("--reread" in note for note in again.notes)
    assert list(twins.other.list("receipts/")) == []
    mended = twins.copy(reread=True)
    assert (mended.replaced, mended.receipts) == (1, len(receipts_there))
