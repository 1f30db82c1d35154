from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from torpor import jobs
from torpor.clock import FakeClock
from torpor.errors import Malformed, NotFound, StorageUnavailable, UsageError
from torpor.storage import files, grants
from torpor.storage.base import GrantExpired, Missing, NotGranted, Refused
from torpor.storage.local import LocalStore
from torpor.storage.memory import MemoryStore
from torpor.storage.transfer import TRANSPORTS, Transfer
from torpor.storage.transport_file import FileTransport

SNAPSHOT = "20260801T120000000-0a1b2c3d"
PACK = f"{SNAPSHOT}/89abcdef-0"


def put(transfer: Transfer, name: str, data: bytes) -> None:
    transfer.put(name, [data], blake3(data).digest())


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "store"))


# grants


def test_a_local_grant_is_a_template_for_one_folder(store: LocalStore) -> None:
    grant = store.grant_put(f"packs/{SNAPSHOT}/", 5.0)
    assert grant.expires == 5.0
    assert grant.put_template is not None
    assert grant.put_template.url == store.url + "/packs/{name}"
    call = grants.find(grant, "put", PACK)
    assert (call.method, call.url, call.headers, call.expires) == ("PUT", f"{store.url}/packs/{PACK}", {}, 5.0)


def test_a_grant_survives_the_wire(store: LocalStore) -> None:
    import msgspec

    grant = grants.join(store.grant_put(f"packs/{SNAPSHOT}/", 0), store.grant_get([f"packs/{PACK}"], 0))
    again = msgspec.json.decode(msgspec.json.encode(grant), type=jobs.Grant)
    assert again == grant
    with Transfer(again) as transfer:
        put(transfer, PACK, b"x")
        assert transfer.get(PACK) == b"x"


def test_a_template_fills_headers_too() -> None:
    grant = jobs.Grant(put_template=jobs.Request("POST", "https://h/upload", {"X-Name": "packs/{name}", "Authorization": "secret"}))
    call = grants.find(grant, "put", PACK)
    assert call.headers == {"X-Name": f"packs/{PACK}", "Authorization": "secret"}
    assert "secret" not in repr(call)


def test_a_request_of_its_own_goes_before_the_template() -> None:
    grant = jobs.Grant(
        get={PACK: jobs.Request("GET", "memory://a/packs/" + PACK)}, get_template=jobs.Request("GET", "memory://b/packs/{name}")
    )
    assert grants.find(grant, "get", PACK).url.startswith("memory://a/")
    assert grants.find(grant, "get", PACK + "1").url == f"memory://b/packs/{PACK}1"
    with pytest.raises(NotGranted):
        grants.find(grant, "put", PACK)


def test_joined_grants_end_with_the_first() -> None:
    store = MemoryStore()
    a, b, c = (
        store.grant_put(f"packs/{SNAPSHOT}/", 0),
        store.grant_get([f"packs/{PACK}"], 9.0),
        store.grant_get(["packs/x/y"], 7.0),
    )
    joined = grants.join(a, b, c)
    assert joined.expires == 7.0
    assert set(joined.get) == {PACK, "x/y"}
    assert joined.put_template == a.put_template
    assert grants.join(a).expires == 0
    with pytest.raises(UsageError):
        grants.join(a, a)


# transfers


def test_transports_are_sorted_and_others_named(tmp_path: Path) -> None:
    assert list(TRANSPORTS) == sorted(TRANSPORTS)
    with (
        Transfer(jobs.Grant(get={"a": jobs.Request("GET", "gopher://h/a")})) as transfer,
        pytest.raises(UsageError, match="gopher:"),
    ):
        transfer.get("a")


def test_packs_are_written_without_a_sync_each(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = files.sync_file_system
    store.put("packs/x/y", b"")
    with Transfer(store.grant_put(f"packs/{SNAPSHOT}/", 0)) as transfer:
        put(transfer, PACK, b"x")
        monkeypatch.setattr(os, "fsync", lambda fd: synced.append("fsync"))

        def sync(fd: int) -> None:
            synced.append("syncfs")
            real(fd)

        monkeypatch.setattr(files, "sync_file_system", sync)
        names = [f"{SNAPSHOT}/89abcdef-{number}" for number in range(1, 20)]
        for name in names:
            put(transfer, name, b"x")
        assert synced == []
        transfer.sync(names)
        assert synced == ["syncfs"]
        transfer.sync([])
        assert synced == ["syncfs"]


def test_a_folder_that_vanished_is_made_again(store: LocalStore, tmp_path: Path) -> None:
    with Transfer(store.grant_put(f"packs/{SNAPSHOT}/", 0)) as transfer:
        put(transfer, PACK, b"x")
        store.delete(["packs/" + PACK])
        assert not (tmp_path / "store/packs" / SNAPSHOT).exists()
        put(transfer, PACK, b"y")
        shutil.rmtree(tmp_path / "store")
        put(transfer, PACK, b"z")
    assert store.get("packs/" + PACK) == b"z"


def test_links_are_not_followed(store: LocalStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "89abcdef-0").write_bytes(b"secret")
    store.put("packs/x/y", b"")
    (tmp_path / "store/packs" / SNAPSHOT).symlink_to(outside)
    grant = grants.join(store.grant_put(f"packs/{SNAPSHOT}/", 0), store.grant_get([f"packs/{PACK}", "packs/x/z"], 0))
    (tmp_path / "store/packs/x/z").symlink_to(outside / "89abcdef-0")
    with Transfer(grant) as transfer:
        with pytest.raises(Refused):
            put(transfer, f"{SNAPSHOT}/89abcdef-1", b"x")
        for name in (PACK, "x/z"):
            with pytest.raises(Missing):
                transfer.get(name)
    assert os.listdir(outside) == ["89abcdef-0"]


def test_few_files_stay_open(store: LocalStore) -> None:
    names = [f"{SNAPSHOT}/89abcdef-{number}" for number in range(200)]
    for name in names:
        store.put("packs/" + name, b"0123456789")
    before = len(os.listdir("/proc/self/fd"))
    with Transfer(store.grant_get(["packs/" + name for name in names], 0)) as transfer:
        for name in names:
            assert transfer.get(name, 3, 4) == b"3456"
        assert len(os.listdir("/proc/self/fd")) <= before + 64
    assert len(os.listdir("/proc/self/fd")) == before


def test_ranges_of_one_pack_open_it_once(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("packs/" + PACK, b"0123456789")
    opened: list[str] = []
    real = files.open_object

    def open_object(folder: int, name: str) -> int:
        opened.append(name)
        return real(folder, name)

    monkeypatch.setattr(files, "open_object", open_object)
    with Transfer(store.grant_get(["packs/" + PACK], 0)) as transfer:
        for start in range(10):
            assert transfer.get(PACK, start, 1) == b"%d" % start
    assert len(opened) == 1


def test_a_failed_put_leaves_no_descriptor_and_no_file(store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = FileTransport()
    call = grants.find(store.grant_put(f"packs/{SNAPSHOT}/", 0), "put", PACK)
    transport.put(call, [b"x"], blake3(b"x").digest())
    store.delete(["packs/" + PACK])
    transport.close()
    before = len(os.listdir("/proc/self/fd"))

    def broken(fd: int, parts: list[memoryview]) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "writev", broken)
    with pytest.raises(Exception, match="EIO"):
        transport.put(call, [b"x"], blake3(b"x").digest())
    transport.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert list(store.list()) == []
    assert os.listdir(tmp_path / "store/packs" / SNAPSHOT) == []


def test_the_memory_stores_clock_ends_its_grants() -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    with Transfer(store.grant_put(f"packs/{SNAPSHOT}/", clock.at + 10)) as transfer:
        put(transfer, PACK, b"x")
        clock.advance(10)
        with pytest.raises(GrantExpired):
            put(transfer, PACK + "1", b"x")


def test_a_grant_for_a_store_that_is_gone() -> None:
    grant = MemoryStore().grant_get(["packs/" + PACK], 0)
    with Transfer(grant) as transfer, pytest.raises(NotFound):
        transfer.get(PACK)


def test_errors_of_parts_are_not_taken_for_the_disks(store: LocalStore) -> None:
    class Parts(list[bytes]):
        def __iter__(self) -> Any:
            raise Malformed("a part could not be made")

    with Transfer(store.grant_put(f"packs/{SNAPSHOT}/", 0)) as transfer, pytest.raises(Malformed):
        transfer.put(PACK, Parts(), bytes(32))


class Slow:
    """A control side that takes its time: it answers once it is told to, and notes who asked."""

    def __init__(self, store: MemoryStore, clock: FakeClock) -> None:
        self.store, self.clock = store, clock
        self.asked = threading.Event()
        self.answer = threading.Event()
        self.count = 0
        self.fails = False

    def grant(self) -> jobs.Grant:
        return self.store.grant_put(f"packs/{SNAPSHOT}/", self.clock.now() + 100)

    def __call__(self, wish: jobs.Ask) -> jobs.Grant:
        self.count += 1
        self.asked.set()
        assert self.answer.wait(30)
        if self.fails:
            raise StorageUnavailable("The control side does not answer.")
        return self.grant()


def test_who_has_a_grant_waits_for_nobody(tmp_path: Path) -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    slow = Slow(store, clock)
    transfer = Transfer(slow.grant(), slow, clock)
    clock.advance(80)
    asking = threading.Thread(target=put, args=(transfer, PACK, b"one"))
    asking.start()
    assert slow.asked.wait(30)
    put(transfer, f"{SNAPSHOT}/89abcdef-1", b"two")  # while the other one waits for its answer
    slow.answer.set()
    asking.join()
    assert slow.count == 1
    put(transfer, f"{SNAPSHOT}/89abcdef-2", b"three")
    assert slow.count == 1


def test_asking_in_vain_is_not_repeated_with_each_request() -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    slow = Slow(store, clock)
    slow.answer.set()
    slow.fails = True
    transfer = Transfer(slow.grant(), slow, clock)
    clock.advance(76)
    for number in range(5):
        put(transfer, f"{SNAPSHOT}/89abcdef-{number}", b"x")
    assert slow.count == 1
    clock.advance(30)  # it is over now
    with pytest.raises(StorageUnavailable):
        put(transfer, PACK, b"x")
    assert slow.count == 2
