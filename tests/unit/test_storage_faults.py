from __future__ import annotations

from collections.abc import Callable

import pytest
from blake3 import blake3

from torpor.errors import NoSpace, StorageUnavailable
from torpor.storage.base import Missing, Store
from torpor.storage.grants import join
from torpor.storage.memory import MemoryStore
from torpor.storage.transfer import Transfer
from torpor.testing.faults import Crash, CrashPoint, CrashStore, CrashTransfer, Faults, FaultyStore, FaultyTransfer

PACK = "20260801T120000000-0a1b2c3d/89abcdef-0"
FOLDER = "packs/20260801T120000000-0a1b2c3d/"


def test_a_script_counts_every_operation() -> None:
    inner = MemoryStore()
    store = FaultyStore(inner, "rErAS")
    store.put("a", b"1")
    with pytest.raises(StorageUnavailable):
        store.put("b", b"2")
    assert store.get("a") == b"1"
    with pytest.raises(StorageUnavailable):
        store.put("c", b"3")
    with pytest.raises(NoSpace):
        store.put("d", b"4")
    store.put("e", b"5")
    assert sorted(inner.objects) == ["a", "c", "e"]
    assert store.faults.counts == {"put": 5, "get": 1}


def test_a_script_for_each_kind() -> None:
    store = FaultyStore(MemoryStore(), {"put": "rE", "get": "NDr", "get_into": "D", "list": "E"})
    store.put("a", bytes(9))
    with pytest.raises(StorageUnavailable):
        store.put("a", b"x")
    with pytest.raises(Missing):
        store.get("a")
    damaged = store.get("a")
    assert damaged != bytes(9)
    assert sum(byte.bit_count() for byte in damaged) == 1
    assert store.get("a") == bytes(9)
    out = bytearray(9)
    store.get_into("a", 0, memoryview(out))
    assert sum(byte.bit_count() for byte in out) == 1
    with pytest.raises(StorageUnavailable):
        store.list()
    assert [info.name for info in store.list()] == ["a"]


def test_a_callable_decides() -> None:
    def script(operation: str, name: str, number: int) -> BaseException | None:
        return StorageUnavailable(f"number {number}") if operation == "delete" and name == "b" else None

    inner = MemoryStore()
    store = FaultyStore(inner, script)
    store.put("a", b"")
    store.put("b", b"")
    store.delete(["a"])
    with pytest.raises(StorageUnavailable, match="number 4"):
        store.delete(["b"])
    assert list(inner.objects) == ["b"]


def test_scripts_are_checked() -> None:
    with pytest.raises(ValueError, match="letters"):
        Faults("rx")
    with pytest.raises(ValueError, match="letters"):
        Faults({"put": "q"})
    with pytest.raises(ValueError, match="reads nothing"):
        FaultyStore(MemoryStore(), "D").put("a", b"")


def transfer_of(store: Store) -> Transfer:
    return Transfer(join(store.grant_put(FOLDER, 0), store.grant_get(["packs/" + PACK], 0)))


def test_transfers_fail_alike() -> None:
    inner = MemoryStore()
    transfer = FaultyTransfer(transfer_of(inner), {"put": "EAr", "get": "rD", "get_into": "E", "sync": "E"})
    digest = blake3(b"data").digest()
    with pytest.raises(StorageUnavailable):
        transfer.put(PACK, [b"data"], digest)
    assert not inner.objects
    with pytest.raises(StorageUnavailable):
        transfer.put(PACK, [b"data"], digest)
    assert transfer.put(PACK, [b"data"], digest).size == 4
    assert transfer.get(PACK) == b"data"
    assert transfer.get(PACK) != b"data"
    with pytest.raises(StorageUnavailable):
        transfer.get_into(PACK, 0, memoryview(bytearray(4)))
    with pytest.raises(StorageUnavailable):
        transfer.sync([PACK])
    transfer.sync([PACK])


def history(at: int, *, after: bool) -> tuple[list[str], CrashPoint, bool]:
    """A small job of a control side and a host; what its store holds after a crash at that point."""
    inner = MemoryStore()
    point = CrashPoint(at, after=after)
    store = CrashStore(inner, point=point)
    transfer = CrashTransfer(transfer_of(inner), point=point)
    crashed = False
    try:
        try:
            store.put("claims/a.json", b"")
            transfer.put(PACK, [b"data"], blake3(b"data").digest())
            store.head("packs/" + PACK)
            store.put("snapshots/a.json", b"")
        finally:
            store.delete(["claims/a.json"])
    except Crash:
        crashed = True
    return sorted(inner.objects), point, crashed


def test_crash_points_are_counted_and_a_dead_process_does_nothing_more() -> None:
    everything, point, crashed = history(0, after=False)
    assert not crashed
    assert point.count == 5
    assert point.log == ["put claims/a.json", f"put {PACK}", f"head packs/{PACK}", "put snapshots/a.json", "delete claims/a.json"]
    claim, pack, snapshot = "claims/a.json", "packs/" + PACK, "snapshots/a.json"
    assert everything == [pack, snapshot]
    before = [history(at, after=False)[0] for at in range(1, point.count + 1)]
    assert before == [[], [claim], [claim, pack], [claim, pack], [claim, pack, snapshot]]
    after = [history(at, after=True)[0] for at in range(1, point.count + 1)]
    assert after == [[claim], [claim, pack], [claim, pack], [claim, pack, snapshot], [pack, snapshot]]
    assert all(history(at, after=mode)[2] for at in range(1, point.count + 1) for mode in (False, True))


def test_each_wrapper_counts_alone_unless_told() -> None:
    store = CrashStore(MemoryStore(), 2)
    store.put("a", b"")
    with pytest.raises(Crash, match="put b"):
        store.put("b", b"")
    with pytest.raises(Crash, match="dead"):
        store.get("a")
    assert store.count == 2
    assert isinstance(store.inner, MemoryStore)
    assert list(store.inner.objects) == ["a"]


def test_a_crash_is_no_exception_that_code_handles() -> None:
    assert not issubclass(Crash, Exception)


OPERATIONS: dict[str, Callable[[Store], object]] = {
    "put": lambda store: store.put("a", b""),
    "get": lambda store: store.get("a"),
    "get_into": lambda store: store.get_into("a", 0, memoryview(bytearray(0))),
    "head": lambda store: store.head("a"),
    "list": lambda store: store.list(),
    "delete": lambda store: store.delete(["a"]),
    "sync": lambda store: store.sync(),
    "clean": lambda store: store.clean(),
    "grant_put": lambda store: store.grant_put(FOLDER, 0),
    "grant_get": lambda store: store.grant_get([], 0),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_passes_by(operation: str) -> None:
    crashing = CrashStore(MemoryStore(), 1)
    with pytest.raises(Crash):
        OPERATIONS[operation](crashing)
    with pytest.raises(StorageUnavailable):
        OPERATIONS[operation](FaultyStore(MemoryStore(), {operation: "E"}))


def test_no_operation_is_forgotten() -> None:
    assert {name for name in Store.__abstractmethods__ if name not in ("url", "capabilities")} | {"clean"} == set(OPERATIONS)
