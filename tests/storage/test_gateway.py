"""The gateway, asked by a host that means harm or has bad luck: without torpor's own transport."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest

from torpor.clock import FakeClock
from torpor.jobs import Grant
from torpor.remote.gateway import Gateway
from torpor.remote.gateway_store import TunnelledStore
from torpor.storage.base import Store
from torpor.storage.local import LocalStore
from torpor.storage.wrapper import Wrapper

SNAPSHOT = "20260801T120000000-0a1b2c3d"
PREFIX = f"packs/{SNAPSHOT}/"
PACK, OTHER, OLD = (f"{SNAPSHOT}/89abcdef-{number}" for number in range(3))
HOUR = 3600.0
OVER = b'{"code": "ExpiredToken"}'


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def gateway(clock: FakeClock) -> Iterator[Gateway]:
    with Gateway(clock, stall=20.0) as found:
        yield found


@pytest.fixture(params=["folder", "spooled"])
def inner(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A folder, as files; and the same as a store of which nothing more is known."""
    store = LocalStore(str(tmp_path / "store"))
    return store if request.param == "folder" else Wrapper(store)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(inner: Store, gateway: Gateway) -> Store:
    inner.put(f"packs/{OLD}", b"old")
    inner.put("config.json", b"config")
    return TunnelledStore(inner, gateway, lambda: gateway.port)


def urls(store: Store, clock: FakeClock) -> tuple[str, str]:
    """To write PACK, and to read OLD."""
    put = store.grant_put(PREFIX, clock.now() + HOUR, [f"packs/{PACK}"])
    return put.put[PACK].url, store.grant_get([f"packs/{OLD}"], clock.now() + HOUR).get[OLD].url


def ask(method: str, url: str, body: bytes = b"") -> tuple[int, bytes]:
    """The path and query go as they stand."""
    connection = HTTPConnection(url.split("/", 3)[2], timeout=30)
    connection.putrequest(method, target(url))
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    with connection.getresponse() as answer:
        found = answer.status, answer.read()
    connection.close()
    return found


def objects(folder: Path) -> dict[str, bytes]:
    """All files there are, those that are being written too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def talk(gateway: Gateway, *pieces: bytes) -> bytes:
    """Say this, then that we have no more; all that is answered until the end."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as sock:
        for piece in pieces:
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
        return answer


def target(url: str) -> str:
    return "/" + url.split("/", 3)[3]


# what a URL is good for


def test_a_url_is_good_for_what_it_was_made_for(store: Store, clock: FakeClock, folder: Path) -> None:
    put, get = urls(store, clock)
    assert ask("PUT", put, b"new")[0] == 200
    assert objects(folder)[f"packs/{PACK}"] == b"new"
    assert ask("GET", get) == (200, b"old")
    assert ask("HEAD", get) == (200, b"")


FORGED: dict[str, Callable[[str], str]] = {
    "another name": lambda url: url.replace(OLD, OTHER).replace(PACK, OLD),
    "the configuration": lambda url: re.sub(r"packs/[^?]*", "config.json", url),
    "upwards": lambda url: url.replace("packs/", "packs/x/../"),
    "upwards, encoded": lambda url: url.replace("packs/", "packs/x/%2e%2e/"),
    "a letter encoded": lambda url: url.replace("packs/", "pack%73/"),
    "an absolute path": lambda url: re.sub(r"/packs/[^?]*", "//etc/passwd", url),
    "a very long one": lambda url: url.replace("packs/", "packs/" + "x" * 1500 + "/"),
    "a later end": lambda url: re.sub(r"expires=\d+", "expires=4000000000", url),
    "no end": lambda url: re.sub(r"expires=\d+", "expires=0", url),
    "another method": lambda url: url.replace("=PUT", "=put").replace("=GET", "=PUT").replace("=put", "=GET"),
    "another scope": lambda url: re.sub(r"scope=(.)", lambda found: f"scope={'1' if found[1] == '0' else '0'}", url),
    "another signature": lambda url: url[:-1] + ("0" if url[-1] != "0" else "1"),
    "a shorter signature": lambda url: url[:-1],
    "no signature": lambda url: url.partition("&sig=")[0],
    "nothing of it": lambda url: url.partition("?")[0],
    "more of it": lambda url: url + "&x=1",
    "the folder": lambda url: re.sub(r"/packs/[^?]*", "/packs/", url),
    "nothing": lambda url: url[: url.index("/", 8) + 1],
}


@pytest.mark.parametrize("forgery", FORGED)
def test_a_url_is_good_for_nothing_else(store: Store, clock: FakeClock, folder: Path, forgery: str) -> None:
    before = objects(folder)
    put, get = urls(store, clock)
    for url in (put, get):
        for method in ("PUT", "GET", "HEAD"):
            status, body = ask(method, FORGED[forgery](url), b"harm" if method == "PUT" else b"")
            assert (status, body in (b"", OVER)) == (403, True), (method, url)
    assert objects(folder) == before


def test_other_methods_are_refused(store: Store, clock: FakeClock, folder: Path) -> None:
    before = objects(folder)
    put, get = urls(store, clock)
    assert [ask("GET", put)[0], ask("HEAD", put)[0], ask("PUT", get, b"harm")[0]] == [403] * 3
    for method in ("DELETE", "POST", "PATCH", "OPTIONS", "PROPFIND", "TRACE"):
        assert ask(method, put, b"harm") == ask(method, get) == (405, b"")
    assert objects(folder) == before


def test_what_is_there_is_not_written_over(store: Store, clock: FakeClock, folder: Path) -> None:
    url = store.grant_put(PREFIX, 0, [f"packs/{OLD}"]).put[OLD].url
    assert ask("PUT", url, b"harm") == (412, b"")
    assert ask("PUT", url, b"") == (412, b"")
    assert objects(folder)[f"packs/{OLD}"] == b"old"


def test_a_url_ends(store: Store, clock: FakeClock, folder: Path) -> None:
    put, get = urls(store, clock)
    clock.advance(HOUR)
    for status, body in (ask("PUT", put, b"late" * 1_000_000), ask("GET", get)):
        assert (status, body) == (403, OVER)
    assert ask("HEAD", get) == (403, b"")
    assert f"packs/{PACK}" not in objects(folder)


def test_an_ended_grant_is_worth_nothing_and_others_go_on(store: Store, clock: FakeClock, folder: Path) -> None:
    grant = store.grant_put(PREFIX, 0, [f"packs/{PACK}"])
    other = store.grant_put(PREFIX, 0, [f"packs/{OTHER}"])
    store.end_grant(grant)
    store.end_grant(grant)
    assert ask("PUT", grant.put[PACK].url, b"x") == (403, b"")
    assert ask("PUT", other.put[OTHER].url, b"x")[0] == 200
    store.end_grant(Grant())


def test_another_gateways_urls_are_a_strangers(store: Store, clock: FakeClock, inner: Store) -> None:
    with Gateway(clock) as other:
        url = TunnelledStore(inner, other, lambda: other.port).grant_get([f"packs/{OLD}"], 0).get[OLD].url
        assert ask("GET", url)[0] == 200
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", other.port)) != 0
    ours = urls(store, clock)[1].split("/packs")[0] + target(url)
    assert ask("GET", ours) == ask("GET", ours.replace(OLD, OTHER)) == (403, OVER)  # it may be one of ours, of an earlier process


# bodies that break, and writes that must stop


@pytest.mark.parametrize("sent", [0, 10, 700_000])
def test_a_body_that_breaks_off_leaves_nothing(store: Store, clock: FakeClock, gateway: Gateway, folder: Path, sent: int) -> None:
    before = objects(folder)
    put, _ = urls(store, clock)
    head = f"PUT {target(put)} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode()
    assert talk(gateway, head, b"x" * sent) == b""
    assert objects(folder) == before
    assert ask("PUT", put, b"whole")[0] == 200


def test_who_writes_when_a_grant_ends_is_stopped(store: Store, clock: FakeClock, gateway: Gateway, folder: Path) -> None:
    """On return nothing of that grant can appear any more, however much of it had come."""
    grant = store.grant_put(PREFIX, 0, [f"packs/{PACK}"])
    text = target(grant.put[PACK].url)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as sock:
        sock.sendall(f"PUT {text} HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n".encode())
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")  # it is being written
        sock.sendall(b"abcd")
        store.end_grant(grant)
        with suppress(OSError):
            sock.sendall(b"e")
            assert sock.recv(1000) == b""
    assert set(objects(folder)) == {"config.json", f"packs/{OLD}"}


def test_closing_ends_who_waits(store: Store, clock: FakeClock) -> None:
    with Gateway(clock) as gateway, socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as sock:
        sock.sendall(b"PUT /")
        gateway.close()
        with suppress(ConnectionResetError):  # not all was read
            assert sock.recv(10) == b""


def test_no_more_connections_than_planned(clock: FakeClock) -> None:
    with Gateway(clock, connections=2) as gateway:
        kept = [socket.create_connection(("127.0.0.1", gateway.port), timeout=30) for _ in range(2)]
        for sock in kept:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 403 ")
        assert talk(gateway, b"") == b""
        for sock in kept:
            sock.close()


# HTTP


@pytest.mark.parametrize(
    "text",
    [b"GET / HTTP/1.0\r\n\r\n", b"GET  / HTTP/1.1\r\n\r\n", b"get / HTTP/1.1\r\n\r\n", b"GET x HTTP/1.1\r\n\r\n", b"\r\n\r\n",
     b"GET http://127.0.0.1/ HTTP/1.1\r\n\r\n", b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
     b"GET / HTTP/1.1\r\nA b\r\n\r\n", b"GET / HTTP/1.1\r\nA : b\r\n\r\n", b"GET / HTTP/1.1\nA: b\n\n",
     b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
     b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", b"PUT / HTTP/1.1\r\nContent-Length: 1,1\r\n\r\nx",
     b"GET / HTTP/1.1\r\nA: " + b"b" * 20_000 + b"\r\n\r\n", b"GET /" + b"x" * 20_000, os.urandom(3000)],
    ids=range(18),
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_not_read(gateway: Gateway, text: bytes) -> None:
    answer = b""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as sock, suppress(ConnectionError):  # it may not read all of it
        sock.sendall(text)
        with suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        answer = sock.recv(100)
    assert answer == b""
    assert talk(gateway, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 403 ")


def test_requests_follow_one_another_on_a_connection(store: Store, clock: FakeClock, gateway: Gateway) -> None:
    put, get = (target(url) for url in urls(store, clock))
    lines = [
        f"GET {get} HTTP/1.1\r\n\r\n", f"GET {put} HTTP/1.1\r\n\r\n", f"PUT {put} HTTP/1.1\r\nContent-Length: 3\r\n\r\nnew",
        f"PUT {put} HTTP/1.1\r\nContent-Length: 3\r\n\r\nnew", f"HEAD {get} HTTP/1.1\r\nRange: bytes=1-\r\n\r\n",
        f"PUT {put} HTTP/1.1\r\n\r\n", f"GET {get} HTTP/1.1\r\nConnection: close\r\n\r\n", f"GET {get} HTTP/1.1\r\n\r\n",
    ]  # fmt: skip
    answer = talk(gateway, "".join(lines).encode())
    assert [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+) ", answer)] == [200, 403, 200, 412, 206, 411, 200]
    assert answer.count(b"Connection: close") == 1


def test_expectations_are_met(store: Store, clock: FakeClock, gateway: Gateway, folder: Path) -> None:
    put, get = (target(url) for url in urls(store, clock))
    head = f"PUT {put} HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as sock:
        sock.sendall(head)
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"new")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert re.findall(rb"HTTP/1\.1 (\d+) ", talk(gateway, head)) == [b"412"]  # what would be refused need not be sent
    refused = talk(gateway, head.replace(put.encode(), get.encode()), b"new")
    assert re.findall(rb"HTTP/1\.1 (\d+) ", refused) == [b"403"]
    assert b"Connection: close" in refused


def test_bodies_larger_than_a_pack_are_not_taken(store: Store, clock: FakeClock, gateway: Gateway) -> None:
    put, _ = urls(store, clock)
    answer = talk(gateway, f"PUT {target(put)} HTTP/1.1\r\nContent-Length: {(64 << 20) + 1}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    index = f"{SNAPSHOT}/index-89abcdef"
    grant = store.grant_put(PREFIX, 0, [f"packs/{index}"])
    assert talk(gateway, f"PUT {target(grant.put[index].url)} HTTP/1.1\r\nContent-Length: {6 << 30}\r\n\r\n".encode())[9:12] == b"413"


@pytest.mark.parametrize(
    ("asked", "status", "body", "says"),
    [("bytes=0-0", 206, b"0", "0-0"), ("bytes=3-5", 206, b"345", "3-5"), ("bytes=7-", 206, b"789", "7-9"),
     ("bytes=7-1000", 206, b"789", "7-9"), ("bytes=10-", 416, b"", "*"), ("bytes=10-20", 416, b"", "*"),
     ("bytes=5-4", 200, b"0123456789", ""), ("bytes=-3", 200, b"0123456789", ""), ("bytes=0-1,4-5", 200, b"0123456789", ""),
     ("lines=1-2", 200, b"0123456789", "")],
)  # fmt: skip
def test_ranges(store: Store, gateway: Gateway, asked: str, status: int, body: bytes, says: str) -> None:
    store.put(f"packs/{PACK}", b"0123456789")
    url = store.grant_get([f"packs/{PACK}"], 0).get[PACK].url
    answer = talk(gateway, f"GET {target(url)} HTTP/1.1\r\nRange: {asked}\r\n\r\n".encode())
    head, _, found = answer.partition(b"\r\n\r\n")
    assert (int(head[9:12]), found) == (status, body)
    assert (f"Content-Range: bytes {says}/10" in head.decode()) == bool(says)


def test_an_object_that_is_gone_is_not_found(store: Store, clock: FakeClock) -> None:
    _, get = urls(store, clock)
    store.delete([f"packs/{OLD}"])
    assert ask("GET", get) == (404, b"")
