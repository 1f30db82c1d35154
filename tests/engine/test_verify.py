"""A verification that was cut short goes on: what was read is not read again for a day, and the receipt is as old as the oldest reading."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.engine.lab import Lab, write
from torpor.clock import FakeClock, rfc3339
from torpor.control import catalogue, distrust, receipts
from torpor.control.granting import LIFETIME
from torpor.control.readings import KEEP
from torpor.control.receipts import Depth, Reading, Verified
from torpor.errors import Interrupted, StorageUnavailable
from torpor.events import ignore
from torpor.format.manifest import FinalCheck, HostProof
from torpor.jobs import Grant
from torpor.storage.memory import MemoryStore
from torpor.storage.rate import Rate
from torpor.storage.transfer import Transfer
from torpor.testing.samples import noise

MIB = 1 << 20


class Room:
    """A snapshot of many packs, and a count of those that are read."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setattr("torpor.hibernate.packer.PACK_TARGET", MIB)
        self.clock = FakeClock()
        self.lab = Lab(folder / "lab", clock=self.clock, store=MemoryStore(self.clock))
        for number in range(8):
            write(folder / "workspace" / f"data-{number}", noise(MIB + 77, number))
        self.snapshot = self.lab.take(folder / "workspace").snapshot.id
        self.packs = catalogue.load(self.lab.repository, self.snapshot).manifest.packs
        assert self.packs >= 7
        self.read: list[str] = []
        self.fail: Callable[[int], BaseException | None] = lambda number: None
        lock, inner = threading.Lock(), Transfer.get_into

        def get_into(transfer: Transfer, name: str, start: int, out: memoryview) -> None:
            with lock:
                error = self.fail(len(self.read))
                if error is not None:
                    raise error
                self.read.append(name)
            inner(transfer, name, start, out)

        patch.setattr(Transfer, "get_into", get_into)

    def verify(self, depth: Depth = "full", **how: object) -> Verified:
        self.read.clear()
        reading = Reading(**how)  # type: ignore[arg-type]
        return receipts.verify(self.lab.repository, self.snapshot, depth, ignore, reading=reading)

    def stop_after(self, count: int, error: BaseException) -> None:
        self.fail = lambda number: error if number >= count else None

    def go_on(self) -> None:
        self.fail = lambda number: None

    @property
    def notes(self) -> list[Path]:
        return list(self.lab.repository.home.verifying.iterdir())


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    return Room(tmp_path, monkeypatch)


def test_it_goes_on_where_it_was(room: Room) -> None:
    began = room.clock.now()
    room.stop_after(4, Interrupted("Ctrl-C"))
    with pytest.raises(Interrupted) as caught:
        room.verify()
    assert "packs were read and are right; they are remembered for a day" in caught.value.safe
    assert "--restart" not in caught.value.safe
    first = {*room.read}
    room.clock.advance(3600)
    room.go_on()
    found = room.verify()
    assert not first & {*room.read}
    assert found.earlier_packs == len(first) == room.packs - found.read_packs
    assert found.earlier_bytes > 3 * MIB
    assert found.receipt is not None
    assert found.receipt.read_packs == "all"
    assert found.receipt.time == rfc3339(began)
    assert found.receipt.ended == rfc3339(began + 3600)
    assert not receipts.is_fresh(room.lab.repository, found.receipt)
    assert receipts.load_all(room.lab.repository, room.snapshot) == [found.receipt]
    assert room.notes == []
    again = room.verify()
    assert (again.read_packs, again.earlier_packs) == (room.packs, 0)
    assert again.receipt is not None
    assert again.receipt.ended is None


def test_a_store_that_fails_costs_no_reading(room: Room) -> None:
    room.stop_after(5, StorageUnavailable("down"))
    with pytest.raises(StorageUnavailable):
        room.verify()
    room.go_on()
    assert room.verify().earlier_packs >= 4


@pytest.mark.parametrize("why", ["restart", "day", "clock", "torn", "manifest", "store"])
def test_what_does_not_count(room: Room, why: str) -> None:
    room.stop_after(room.packs - 1, Interrupted("Ctrl-C"))
    with pytest.raises(Interrupted):
        room.verify()
    room.go_on()
    (notes,) = room.notes
    if why == "day":
        room.clock.advance(KEEP)
    elif why == "clock":
        room.clock.advance(-10)
    elif why == "torn":
        notes.write_text("".join(line.split(".")[0][:-12] + "\n" for line in notes.read_text().splitlines()) + "x")
    elif why in ("manifest", "store"):
        room.lab.store.delete([f"claims/{room.snapshot}.json"])
        notes.rename(notes.with_name(f"{room.snapshot}-{'0' * 32}"))  # what another manifest's, or another store's, are called
    found = room.verify(restart=why == "restart")
    assert (found.earlier_packs, found.read_packs) == (0, room.packs)


def test_one_that_found_damage_has_ended(room: Room) -> None:
    """Nothing goes on from there: what was right then may not be now."""
    objects = room.lab.memory.objects
    name = sorted(name for name in objects if name.startswith("packs/") and "index" not in name)[2]
    whole = objects[name]
    objects[name] = whole._replace(data=whole.data[:-1] + bytes((whole.data[-1] ^ 1,)))
    assert set(room.verify().damage) == {name}
    assert room.notes == []
    objects[name] = whole
    found = room.verify()
    assert (found.damage, found.read_packs) == ({}, room.packs)


def test_a_pack_that_went_meanwhile_is_missed(room: Room) -> None:
    room.stop_after(room.packs - 1, Interrupted("Ctrl-C"))
    with pytest.raises(Interrupted):
        room.verify()
    room.go_on()
    name = f"packs/{room.read[0]}"
    del room.lab.memory.objects[name]
    found = room.verify()
    assert (set(found.damage), found.receipt) == ({name}, None)


def test_a_pack_that_was_found_damaged_meanwhile_is_read_again(room: Room) -> None:
    """By the verification of another snapshot that names it too."""
    room.stop_after(room.packs - 1, Interrupted("Ctrl-C"))
    with pytest.raises(Interrupted):
        room.verify()
    room.go_on()
    pack = room.read[0]
    distrust.learn(room.lab.repository, {f"packs/{pack}": "its BLAKE3 is not the one the index names"}, ())
    found = room.verify()
    assert pack in room.read
    assert found.earlier_packs == room.packs - found.read_packs > 0
    assert distrust.packs(room.lab.repository) == set()


def test_what_a_machine_goes_on_is_read_in_one_go(room: Room) -> None:
    room.stop_after(room.packs - 1, Interrupted("Ctrl-C"))
    with pytest.raises(Interrupted):
        room.verify()
    room.go_on()
    proof = HostProof(True, "1" * 32, FinalCheck(rfc3339(room.clock.now()), 0))
    found = receipts.verify(room.lab.repository, room.snapshot, "full", ignore, lambda: proof)
    assert (found.read_packs, found.earlier_packs) == (room.packs, 0)


def test_one_that_takes_longer_than_a_grant(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not given requests for all of a large snapshot at once."""
    monkeypatch.setattr("torpor.control.granting.PACKS_ASKED", 1)
    monkeypatch.setattr("torpor.jobs.PACKS_ASKED", 2)
    given: list[int] = []
    grant_get = room.lab.memory.grant_get

    def counted(names: Iterable[str], expires: float) -> Grant:
        wanted = [*names]
        given.append(len(wanted))
        return grant_get(wanted, expires)

    room.lab.memory.grant_get = counted  # type: ignore[method-assign]

    def a_long_while(number: int) -> None:
        room.clock.advance(LIFETIME - 60)

    room.fail = a_long_while
    found = room.verify()
    assert (found.damage, found.read_packs) == ({}, room.packs)
    assert len(given) > 1
    assert max(given) == 2


@pytest.mark.parametrize(("how", "count"), [({"packs": 3}, 3), ({"part": 0.5}, -1), ({"part": 1.0}, 99), ({"packs": 99}, 99), ({}, 4)])
def test_a_sample_as_large_as_asked_for(room: Room, how: dict[str, float], count: int) -> None:
    wanted = min(room.packs, count if count >= 0 else -(-room.packs // 2))
    found = room.verify("sample", **how)
    assert found.read_packs == wanted
    assert found.receipt is not None
    assert set(found.receipt.read_packs) == {*room.read}


def test_the_rate_is_kept(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """All bytes pass the limit, in steps that a wait for them is short."""
    steps: list[int] = []
    monkeypatch.setattr(Rate, "take", lambda rate, count: steps.append(count))
    found = room.verify(rate=1 << 40)
    assert sum(steps) == found.read_bytes == found.pack_bytes
    assert max(steps) <= 4 * MIB


def test_a_slow_one_can_be_stopped(room: Room) -> None:
    """However slow it is: nobody waits for the bytes that were asked for."""
    told = threading.Event()

    def listen(event: object) -> None:
        told.set()

    def interrupt() -> None:
        raise Interrupted("Ctrl-C")

    room.fail = lambda number: interrupt()
    with pytest.raises(Interrupted):
        receipts.verify(room.lab.repository, room.snapshot, "full", listen, reading=Reading(rate=1_000_000))
    assert told.is_set()
