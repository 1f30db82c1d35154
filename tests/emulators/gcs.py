"""Google Cloud Storage over HTTP: for Google's own client, and for the signed URLs that hosts use, with faults by script.

with Gcs(folder) as gcs:
    gcs.url, gcs.credentials_file, gcs.bucket, gcs.objects
    gcs.faults.add("insert", Refusal(503, "backendError", "…"), LOST, Cut(1000))
    gcs.requests
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import defaultdict, deque
from email.utils import formatdate
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.emulators.gcs_json import PAGE_MAX, Answer, JsonApi, Request, media, operation, problem
from tests.emulators.gcs_service import Refusal, Service, Stored
from torpor.clock import SYSTEM, Clock


class Cut(NamedTuple):
    """The request is done, and the connection reset after so many bytes of the answer's body; -1: before the answer."""

    after: int


LOST = Cut(-1)


class Seen(NamedTuple):
    """One request, before it was answered. Names of headers are in small."""

    operation: str
    method: str
    path: str
    query: str
    headers: dict[str, str]


class Faults:
    """What goes wrong next, by operation, in order. `always` goes on for ever."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[str, deque[Refusal | Cut]] = defaultdict(deque)
        self.always: dict[str, Refusal] = {}

    def add(self, operation: str, *faults: Refusal | Cut) -> None:
        with self._lock:
            self._next[operation].extend(faults)

    def take(self, operation: str) -> Refusal | Cut | None:
        with self._lock:
            return self._next[operation].popleft() if self._next[operation] else self.always.get(operation)

    @property
    def left(self) -> int:
        return sum(map(len, self._next.values()))


class Gcs:
    """A bucket and a service account that may do everything in it. `folder` is where the account's file goes.

    `page`: names in a page of a list, however many are asked for.
    """

    def __init__(self, folder: Path, clock: Clock = SYSTEM, page: int = PAGE_MAX) -> None:
        self.bucket = "torpor-tests"
        self.email = "torpor@tests.iam.gserviceaccount.com"
        self.service = Service(self.bucket, self.email, _key().public_key(), clock)
        self.json = JsonApi(self.service, self._inside_a_batch, page)
        self.credentials_file = folder / "service-account.json"
        self.requests: list[Seen] = []
        self.faults = Faults()

    @property
    def objects(self) -> dict[str, Stored]:
        return self.service.objects

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def seen(self, operation: str) -> list[Seen]:
        return [seen for seen in self.requests if seen.operation == operation]

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self.credentials_file.write_text(json.dumps(self._account()))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join(timeout=60)
        self._server.hang_up()
        self._server.server_close()

    def _inside_a_batch(self, operation: str) -> None:
        fault = self.faults.take(operation)
        if isinstance(fault, Refusal):
            raise fault

    def _account(self) -> dict[str, str]:
        pem = _key().private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return {
            "type": "service_account", "project_id": "tests", "private_key_id": "1", "private_key": pem.decode(),
            "client_email": self.email, "client_id": "1", "token_uri": self.url + "/token",
        }  # fmt: skip


@cache
def _key() -> rsa.RSAPrivateKey:
    """One for all emulators of a process: making it takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, gcs: Gcs) -> None:
        self.gcs = gcs
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of the tests' concern; what the service did wrong shows as a cut connection."""

    def hang_up(self) -> None:
        with self._lock:
            for connection in self._open:
                connection.close()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Quiet."""

    def _serve(self) -> None:
        gcs, url = self.server.gcs, urlsplit(self.path)
        what = operation(self.command, url.path, url.query)
        headers = {name.lower(): value for name, value in self.headers.items()}
        gcs.requests.append(Seen(what, self.command, url.path, url.query, headers))
        size = int(headers.get("content-length", "0"))
        body = self.rfile.read(size)
        if len(body) < size:
            self.close_connection = True
            return  # the client broke off, and nothing is stored
        fault = gcs.faults.take(what)
        try:
            if isinstance(fault, Refusal):
                raise fault
            request = Request(self.command, url.path, url.query, headers, body)
            answer = self._signed(request) if what.startswith("signed") else gcs.json.answer(request)
        except Refusal as refusal:
            answer = _xml(refusal) if what.startswith("signed") else problem(refusal)
        if fault == LOST:
            self._cut()
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            for line in value.split(",") if name == "x-goog-hash" else [value]:  # the service sends one line a digest
                self.send_header(name, line)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: fault.after] if isinstance(fault, Cut) else answer.body)
        if isinstance(fault, Cut):
            self.wfile.flush()
            self._cut()

    def do_DELETE(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _cut(self) -> None:
        """Nothing that was sent is lost, and then the connection is reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _signed(self, request: Request) -> Answer:
        """The XML API: only with a signed URL, only objects."""
        service = self.server.gcs.service
        service.check_signature(request.method, request.path, request.query, request.headers)
        bucket, _, name = unquote(request.path[1:]).partition("/")
        service.check_bucket(bucket)
        match = request.headers.get("x-goog-if-generation-match")
        if request.method == "PUT":
            stored = service.write(name, request.body, match, request.headers.get("content-md5"))
            hashed = {"x-goog-generation": str(stored.generation), "x-goog-hash": f"crc32c={stored.crc32c},md5={stored.md5}"}
            return Answer(200, {"ETag": f'"{stored.generation:x}"', "x-goog-stored-content-length": str(len(stored.data)), **hashed})
        if request.method == "DELETE":
            service.delete(name)
            return Answer(204, {})
        stored = service.find(name)
        answer = media(stored, request.headers.get("range", ""))
        when = {"Last-Modified": formatdate(stored.created, usegmt=True), "ETag": f'"{stored.generation:x}"'}
        return answer._replace(headers={**answer.headers, **when})


def _xml(refusal: Refusal) -> Answer:
    text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{refusal.code}</Code><Message>{refusal.message}</Message></Error>"
    return Answer(refusal.status, {"Content-Type": "application/xml; charset=UTF-8", **refusal.headers}, text.encode())
