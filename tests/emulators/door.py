"""A folder as a store that hosts reach by HTTP: counts what they send and get. The control side uses the folder itself.

with Door(folder) as door:
    store = door.store(few=2)
    ...  # door.puts, door.gets: (name, bytes) in order
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from torpor.jobs import Grant, Request
from torpor.storage.base import PACKS, Exists, Missing
from torpor.storage.local import LocalStore

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class DoorStore(LocalStore):
    """Grants requests to `url`, for `few` objects at a time, as a store does that signs each."""

    def __init__(self, folder: str, url: str, few: int = 1000) -> None:
        super().__init__(folder)
        self._door, self.few = url, few
        self.given: list[Grant] = []

    def grant_put(self, prefix: str, expires: float, names: Sequence[str] = ()) -> Grant:
        put = {name.removeprefix(PACKS): Request("PUT", f"{self._door}/{name}", {"If-None-Match": "*"}) for name in names[: self.few]}
        self.given.append(Grant(put=put, expires=expires))
        return self.given[-1]

    def grant_get(self, names: Iterable[str], expires: float) -> Grant:
        chosen = list(names)[: self.few]
        return Grant(get={name.removeprefix(PACKS): Request("GET", f"{self._door}/{name}") for name in chosen}, expires=expires)


class Door:
    """Serves from `with` on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inner = LocalStore(str(folder))
        self.puts: list[tuple[str, int]] = []
        self.gets: list[tuple[str, int]] = []
        self.put = threading.Condition()
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="door")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def store(self, few: int = 1000) -> DoorStore:
        return DoorStore(str(self.folder), self.url, few)

    def wait_for_put(self) -> None:
        """Until something was put."""
        with self.put:
            assert self.put.wait_for(lambda: self.puts, 60)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True  # a client that keeps its connection is not waited for

    def __init__(self, address: tuple[str, int], door: Door) -> None:
        self.door = door
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        """The door counts."""

    def do_PUT(self) -> None:
        size = int(self.headers["Content-Length"])
        body = self.rfile.read(size)
        with self.server.door.put:
            self.server.door.puts.append((self.path[1:], len(body)))
            self.server.door.put.notify_all()
        if len(body) < size:
            self.close_connection = True
            return
        try:
            self.server.door.inner.put(self.path[1:], body, if_absent=True)
        except Exists:
            self._answer(412)
            return
        self._answer(200)

    def do_GET(self) -> None:
        found = _RANGE.match(self.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        length = int(found[2]) + 1 - start if found and found[2] else None
        try:
            data = self.server.door.inner.get(self.path[1:], start, length)
            info = self.server.door.inner.head(self.path[1:])
        except Missing:
            self._answer(404)
            return
        assert info is not None
        self.server.door.gets.append((self.path[1:], len(data)))
        span = {"Content-Range": f"bytes {start}-{start + len(data) - 1}/{info.size}"} if found else {}
        self._answer(206 if found else 200, data, span)

    def _answer(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
