"""An object store over HTTP on this machine that fails by script: what a host's transport meets on the way, made on purpose.

    with Faulty({2: Fault(503, {"Retry-After": "1"})}) as server: ...

Objects have the URLs `<server.url>/<name>`. It keeps to `Range`, `If-None-Match: *` and `Content-MD5`; ETags are MD5s. A script maps
the number of a request (from 1) to its fault, or is a callable that does.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

LIMIT = 60.0  # seconds that anything here waits for a test to go on


class Fault(NamedTuple):
    """What happens to one request.

    `status`, `headers`, `body`: this answer instead. `hears`: bytes of the request's body that are read before it; None: all. `acts`:
    the request takes effect, whatever is answered. `reset`, `ends`: after so many bytes of the answer's body the connection is reset,
    or closed in good order; -1: before the answer's head. `hold`: nothing is answered before it is set. `ranges`: off, `Range` is
    ignored. `etag`: this one instead.
    """

    status: int = 0
    headers: Mapping[str, str] = {}
    body: bytes = b""
    hears: int | None = None
    acts: bool = False
    reset: int | None = None
    ends: int | None = None
    hold: threading.Event | None = None
    ranges: bool = True
    etag: str | None = None


class Seen(NamedTuple):
    """A request as it came in; `body` counts its bytes."""

    method: str
    path: str
    headers: dict[str, str]
    body: int


Script = Mapping[int, Fault] | Callable[[int], Fault | None]
NONE = Fault()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128
    owner: Faulty

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that break are what this is for."""


class Faulty:
    def __init__(self, script: Script | None = None, *, certificate: Path | None = None) -> None:
        """`certificate`: a PEM file with its key, for TLS."""
        self.objects: dict[str, bytes] = {}
        self.requests: list[Seen] = []
        self.connections = 0
        self.arrived = threading.Condition()
        self._script = script or {}
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def fault(self, seen: Seen) -> Fault:
        """Note the request, and say what is to happen to it."""
        with self.arrived:
            self.requests.append(seen)
            number = len(self.requests)
            self.arrived.notify_all()
        if callable(self._script):
            return self._script(number) or NONE
        return self._script.get(number, NONE)

    def wait_for(self, count: int) -> None:
        """Until so many requests have come in."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.requests) >= count, LIMIT)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = LIMIT
    server: _Server

    def setup(self) -> None:
        super().setup()
        with self.server.owner.arrived:
            self.server.owner.connections += 1

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def do_PUT(self) -> None:
        length = int(self.headers["Content-Length"])
        fault = self._fault(length)
        hears = length if fault.hears is None else fault.hears
        data = self.rfile.read(hears)
        if fault.status and not fault.acts:
            self._answer(fault.status, fault.headers, fault.body, fault)
        elif hears < length:
            self._drop(fault)
        else:
            self._put(data, fault)

    def _put(self, data: bytes, fault: Fault) -> None:
        md5 = hashlib.md5(data).digest()
        name = self.path.partition("?")[0]
        wanted = self.headers.get("Content-MD5")
        with self.server.owner.arrived:
            if wanted is not None and base64.b64decode(wanted) != md5:
                status, body = 400, b"<Error><Code>BadDigest</Code></Error>"
            elif self.headers.get("If-None-Match") == "*" and name in self.server.owner.objects:
                status, body = 412, b"<Error><Code>PreconditionFailed</Code></Error>"
            else:
                status, body = 200, b""
                self.server.owner.objects[name] = data
        etag = fault.etag if fault.etag is not None else f'"{md5.hex()}"'
        self._answer(fault.status or status, {"ETag": etag, **fault.headers}, fault.body or body, fault)

    def do_GET(self) -> None:
        fault = self._fault(0)
        data = self.server.owner.objects.get(self.path.partition("?")[0])
        if fault.status:
            self._answer(fault.status, fault.headers, fault.body, fault)
        elif data is None:
            self._answer(404, {}, b"<Error><Code>NoSuchKey</Code></Error>", fault)
        else:
            self._get(data, fault)

    def _get(self, data: bytes, fault: Fault) -> None:
        headers = {"ETag": f'"{hashlib.md5(data).hexdigest()}"', **fault.headers}
        found = re.match(r"bytes=(\d+)-(\d*)\Z", self.headers.get("Range", "")) if fault.ranges else None
        if found is None:
            self._answer(200, headers, data, fault)
            return
        first, last = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
        if first > last:
            self._answer(416, {"Content-Range": f"bytes */{len(data)}"}, b"<Error><Code>InvalidRange</Code></Error>", fault)
        else:
            self._answer(206, {"Content-Range": f"bytes {first}-{last}/{len(data)}", **headers}, data[first : last + 1], fault)

    def _fault(self, length: int) -> Fault:
        fault = self.server.owner.fault(Seen(self.command, self.path, dict(self.headers.items()), length))
        if fault.hold is not None:
            fault.hold.wait(LIMIT)
        return fault

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes, fault: Fault) -> None:
        stop = fault.reset if fault.reset is not None else fault.ends
        if stop is None or stop >= 0:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body if stop is None else body[:stop])
        if fault.hears is not None:
            self.close_connection = True
        if stop is not None:
            self._drop(fault)

    def _drop(self, fault: Fault) -> None:
        """End the connection: in good order if the fault says so, else by a reset."""
        self.close_connection = True
        if fault.ends is None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            for end in (self.rfile, self.wfile, self.connection):
                end.close()
