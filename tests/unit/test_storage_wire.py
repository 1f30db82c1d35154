"""Connections: certificates, what they cost in memory, and where they lead."""

from __future__ import annotations

import os
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.faulty import Faulty
from torpor.errors import UsageError
from torpor.storage.base import Refused
from torpor.storage.grants import Call
from torpor.storage.options import Options
from torpor.storage.transport_http import HttpTransport
from torpor.storage.wire import Place, split
from torpor.testing.tls import certificate

MIB = 1 << 20


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    transport = HttpTransport(Options(stall=5.0))
    yield transport
    transport.close()


def call(verb: str, url: str) -> Call:
    return Call("x/y", verb, url, {}, 0)


def test_bytes_go_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: HttpTransport) -> None:
    pem = certificate(tmp_path / "server.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    data, back = os.urandom(3 * MIB), bytearray(3 * MIB)
    with Faulty(certificate=pem) as server:
        transport.put(call("PUT", f"{server.url}/x"), [data[:MIB], data[MIB:]], b"")
        transport.get_into(call("GET", f"{server.url}/x"), 0, memoryview(back))
        transport.close()
    assert back == data
    assert server.connections == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_a_server_must_prove_who_it_is(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: HttpTransport) -> None:
    """By an authority that is trusted, and for the name it was asked by."""
    pem = certificate(tmp_path / "server.pem", host)
    if host != "127.0.0.1":
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with Faulty(certificate=pem) as server, pytest.raises(Refused) as caught:
        transport.put(call("PUT", f"{server.url}/x?secret"), [b"x"], b"")
    assert server.requests == []
    assert not caught.value.retryable
    assert "CA certificates" in caught.value.remedy
    assert "secret" not in str(caught.value)


class Sink:
    """Takes any body and answers with as many zeros as are asked for, in 64 KiB of memory."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/x"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._server.accept()
        space = bytearray(64 * 1024)
        with connection, connection.makefile("rb") as file:
            while line := file.readline():
                head = {}
                while (field := file.readline()) != b"\r\n":
                    name, _, value = field.decode().partition(": ")
                    head[name.lower()] = value.strip()
                left = int(head.get("content-length", 0))
                while left:
                    left -= file.readinto(memoryview(space)[:left])
                count = 32 * MIB if line.startswith(b"GET") else 0
                span = f"Content-Range: bytes 0-{count - 1}/{count}\r\n" if count else ""
                connection.sendall(f"HTTP/1.1 {206 if count else 200} OK\r\nContent-Length: {count}\r\n{span}\r\n".encode())
                for _ in range(count // len(space)):
                    connection.sendall(space)

    def close(self) -> None:
        self._thread.join()
        self._server.close()


def test_bodies_are_not_copied(transport: HttpTransport) -> None:
    body, space = bytearray(16 * MIB), bytearray(32 * MIB)
    sink = Sink()
    transport.put(call("PUT", sink.url), [b"x"], b"")  # so that all is imported
    tracemalloc.start()
    try:
        transport.put(call("PUT", sink.url), [body, body], b"")
        transport.get_into(call("GET", sink.url), 0, memoryview(space))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    transport.close()
    sink.close()
    assert peak < MIB


def test_places() -> None:
    place, target = split("https://Bucket.example/packs/a%20b?X-Sig=a%2Fb&c=d#e")
    assert place == Place(True, "bucket.example", 443)
    assert target == "/packs/a%20b?X-Sig=a%2Fb&c=d"
    assert split("http://[::1]:9000") == (Place(False, "::1", 9000), "/")
    assert [str(split(url)[0]) for url in ("https://h/x?y", "http://h:81/", "http://[::1]:80/", "http://[::1]:9/")] == [
        "h", "h:81", "[::1]", "[::1]:9",
    ]  # fmt: skip
    for url in ("https://", "https://a@b/", "https://h/\n", "https://h/é", "https://h:99999/"):
        with pytest.raises(UsageError):
            split(url)
