"""Stores behind a gateway as a host's own transport sees them: many threads, grants that end, ways that break, processes that do."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from blake3 import blake3

from torpor.clock import FakeClock
from torpor.errors import StorageUnavailable
from torpor.jobs import Ask, Grant
from torpor.remote.gateway import Gateway
from torpor.remote.gateway_store import TunnelledStore, reachable, served
from torpor.storage.base import Capabilities, GrantExpired, NotGranted, Refused, Store
from torpor.storage.grants import join
from torpor.storage.local import LocalStore
from torpor.storage.memory import MemoryStore
from torpor.storage.options import Options
from torpor.storage.transfer import Transfer
from torpor.storage.wrapper import Wrapper

SNAPSHOT = "20260801T120000000-0a1b2c3d"
PREFIX = f"packs/{SNAPSHOT}/"
PACK, OLD = (f"{SNAPSHOT}/89abcdef-{number}" for number in range(2))
HOUR = 3600.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def gateway(clock: FakeClock) -> Iterator[Gateway]:
    with Gateway(clock) as found:
        yield found


@pytest.fixture(params=["folder", "spooled"])
def inner(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    store = LocalStore(str(tmp_path / "store"))
    store.put(f"packs/{OLD}", b"old")
    return store if request.param == "folder" else Wrapper(store)


@pytest.fixture
def store(inner: Store, gateway: Gateway) -> Store:
    return TunnelledStore(inner, gateway, lambda: gateway.port)


def test_sixteen_threads_read_ranges_of_what_one_wrote(store: Store, clock: FakeClock) -> None:
    whole = os.urandom(8 << 20)
    grant = join(store.grant_put(PREFIX, 0, [f"packs/{PACK}"]), store.grant_get([f"packs/{PACK}"], 0))
    barrier = threading.Barrier(16)
    with Transfer(grant, clock=clock) as transfer:
        transfer.put(PACK, [whole], blake3(whole).digest())

        def read(number: int) -> bool:
            barrier.wait(30)
            size = len(whole) // 16 + 1000
            out = memoryview(bytearray(min(size, len(whole) - number * (len(whole) // 16))))
            transfer.get_into(PACK, number * (len(whole) // 16), out)
            return bool(out == whole[number * (len(whole) // 16) :][: len(out)])

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(read, range(16)))


def test_a_grant_that_ended_by_our_clock_is_renewed(store: Store, clock: FakeClock) -> None:
    """The host's own clock may say otherwise."""
    old = store.grant_get([f"packs/{OLD}"], clock.now() + HOUR)
    clock.advance(HOUR + 1)
    slow = FakeClock(clock.now() - 2 * HOUR)
    with Transfer(old, clock=slow) as transfer, pytest.raises(GrantExpired):
        transfer.get(OLD)
    with Transfer(old, lambda ask: store.grant_get([f"packs/{name}" for name in ask.get], clock.now() + HOUR), slow) as transfer:
        assert transfer.get(OLD) == b"old"
        with pytest.raises(NotGranted):
            transfer.put(PACK, [b"x"], bytes(32))


def test_what_an_earlier_process_granted_is_asked_for_anew(inner: Store, clock: FakeClock, gateway: Gateway) -> None:
    """Another gateway stands where it was: the job that outlived it goes on."""
    with Gateway(clock) as before:
        old = TunnelledStore(inner, before, lambda: gateway.port).grant_put(PREFIX, 0, [f"packs/{PACK}"])
    store = TunnelledStore(inner, gateway, lambda: gateway.port)
    asked: list[Ask] = []

    def more(ask: Ask) -> Grant:
        asked.append(ask)
        return store.grant_put(PREFIX, 0, [f"packs/{name}" for name in ask.put])

    whole = os.urandom(5 << 20)
    with Transfer(old, more, clock) as transfer:
        transfer.put(PACK, [whole], blake3(whole).digest())
    assert [ask.put for ask in asked] == [[PACK]]
    assert inner.get(f"packs/{PACK}") == whole
    assert store.revocation(old) == ""
    store.revoke("")


def test_an_ended_grant_is_refused_for_good(store: Store, clock: FakeClock) -> None:
    grant = store.grant_put(PREFIX, 0, [f"packs/{PACK}"])
    store.end_grant(grant)
    with Transfer(grant, clock=clock) as transfer, pytest.raises(Refused) as caught:
        transfer.put(PACK, [b"x"], blake3(b"x").digest())
    assert "sig" not in str(caught.value)


def test_a_tunnel_that_breaks_is_waited_for(store: Store, inner: Store, clock: FakeClock, gateway: Gateway) -> None:
    """The way to the gateway ends in the middle of a pack, and comes back on the same port."""
    whole = os.urandom(3 << 20)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        tunnelled = TunnelledStore(inner, gateway, lambda: port)
        grant = tunnelled.grant_put(PREFIX, 0, [f"packs/{PACK}"])

        def forward() -> None:
            with server.accept()[0] as first:
                first.recv(100_000)
            for sock, _ in iter(server.accept, None):
                with sock, socket.create_connection(("127.0.0.1", gateway.port)) as inside:
                    _pump(sock, inside)
                return

        thread = threading.Thread(target=forward, daemon=True)
        thread.start()
        with Transfer(grant, clock=clock, options=Options(deadline=30)) as transfer:
            transfer.put(PACK, [whole], blake3(whole).digest())
            assert transfer.counters().retries >= 1
        thread.join(30)
    assert inner.get(f"packs/{PACK}") == whole


@pytest.mark.parametrize("old", ["closed", "silent", "taken"])
def test_a_tunnel_at_another_port(inner: Store, gateway: Gateway, clock: FakeClock, old: str) -> None:
    """Nobody is at the port any more, or nobody answers there, since what is left of a control side that was killed holds it: the host
    asks, and whoever controls it now says another port. What was sent to the old one in full may have arrived."""
    whole, here = os.urandom(1 << 20), gateway.port
    live = TunnelledStore(inner, gateway, lambda: here)
    asked: list[Ask] = []

    def more(ask: Ask) -> Grant:
        asked.append(ask)
        if ask.put and old == "taken":
            inner.put(f"packs/{PACK}", whole)
        return live.grant_put(PREFIX, 0, [f"packs/{PACK}"]) if ask.put else live.grant_get([f"packs/{name}" for name in ask.get], 0)

    options = Options(deadline=30, silence=0.3, stall=0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = TunnelledStore(inner, gateway, lambda: server.getsockname()[1])
        grant = join(gone.grant_put(PREFIX, 0, [f"packs/{PACK}"]), gone.grant_get([f"packs/{OLD}"], 0))
        if old == "closed":
            server.close()
        with Transfer(grant, more, clock=clock, options=options) as transfer:
            assert transfer.get(OLD) == b"old"
            transfer.put(PACK, [whole], blake3(whole).digest())
    assert [(ask.put, ask.get) for ask in asked] == [([], [OLD]), ([PACK], [])]
    assert inner.get(f"packs/{PACK}") == whole


def test_a_tunnel_that_stays_away(gateway: Gateway, clock: FakeClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    store = TunnelledStore(MemoryStore(), gateway, lambda: port)
    asked: list[Ask] = []

    def more(ask: Ask) -> Grant:
        asked.append(ask)
        return store.grant_get([f"packs/{OLD}"], 0)

    options = Options(deadline=1.0, silence=0.3)
    with Transfer(more(Ask()), more, clock=clock, options=options) as transfer, pytest.raises(StorageUnavailable, match="Reading"):
        transfer.get(OLD)
    assert 2 <= len(asked) < 10


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Both ways, until one of them has ended."""

    def copy(source: socket.socket, sink: socket.socket) -> None:
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=copy, args=(other, one), daemon=True)
    back.start()
    copy(one, other)
    back.join(30)


# which stores need it


def test_only_stores_that_a_host_cannot_reach_are_served(tmp_path: Path) -> None:
    class Elsewhere(Wrapper):
        place = "s3://bucket/x"

        @property
        def url(self) -> str:
            return self.place

        @property
        def capabilities(self) -> Capabilities:
            return super().capabilities._replace(presign=True)

    def never(port: int) -> AbstractContextManager[Callable[[], int]]:
        raise AssertionError("no tunnel is wanted")

    far = Elsewhere(MemoryStore())
    assert reachable(far)
    with served(far, never) as store:
        assert store is far
    far.place = "s3://bucket?endpoint=https://s3.eu-west-1.example.com&region=127.0.0.1"
    assert reachable(far)
    for endpoint in ("http://127.0.0.1:9000", "https://localhost", "http://[::1]:9000/", "HTTP://127.1.2.3"):
        far.place = f"s3://bucket?region=x&endpoint={endpoint}"
        assert not reachable(far)
    assert not reachable(LocalStore(str(tmp_path)))
    assert not reachable(MemoryStore())
