"""An S3 service on loopback, for what a real server cannot show: signatures, expiry, quirks of services, and faults by script.

with S3Emulator("r2") as s3:
    s3.objects["name"] = Object(b"data", time.time())
    s3.faults = script([slow_down(retry_after=1), lost_answer()], method="PUT")
    ...  # talk to s3.url with s3.key and s3.secret, bucket s3.bucket
    assert [seen.status for seen in s3.requests] == [503, 0, 412]
"""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

from tests.emulators import s3_answers, s3_auth
from tests.emulators.s3_answers import Answer
from tests.emulators.s3_faults import LONGEST_STALL, Fault

SECRETS = {"authorization", "x-amz-security-token", "x-amz-credential", "x-amz-signature"}
_PIECE = 1 << 16


class Object(NamedTuple):
    data: bytes
    modified: float

    @property
    def etag(self) -> str:
        return hashlib.md5(self.data, usedforsecurity=False).hexdigest()


@dataclass
class Seen:
    """One request. `headers` in lower case, `query` as sent; neither holds a secret. `status`: what was answered; 0: nothing."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    size: int = 0
    status: int = 0
    at: float = field(default_factory=time.monotonic)


class Quirks(NamedTuple):
    """`conditional`: what `If-None-Match: *` on PUT does: "kept", "ignored", or "refused" by 501. `checksums`: whether
    `x-amz-checksum-…` is taken. `regions`: those that a signature may name."""

    conditional: str
    checksums: bool
    regions: tuple[str, ...]


QUIRKS = {
    "aws": Quirks("kept", True, ("us-east-1",)),
    "r2": Quirks("kept", False, ("auto", "us-east-1")),
    "wasabi": Quirks("ignored", False, ("us-east-1",)),
    "b2": Quirks("refused", False, ("us-east-1",)),
}


class S3Emulator:
    """One bucket of one service, at `url`, from `with` on. `page`: names in a page of a list. `skew`: how far its clock is ahead.
    `tokens`: whether a page that is not the last tells where the next begins.
    `ends`: whether signed requests end; `signs`: whether signatures are looked at.

    `objects` by name, `requests` in order, `faults`: called with each request (not under the lock), returns what goes wrong with it.
    """

    def __init__(self, profile: str = "aws", bucket: str = "bucket", page: int = 1000, skew: float = 0.0) -> None:
        self.profile = profile
        self.quirks = QUIRKS[profile]
        self.bucket = bucket
        self.page = page
        self.skew = skew
        self.key, self.secret = "AKIDEMULATED", "emulated/secret+of=forty_characters_0123"
        self.keys = {self.key: s3_auth.Key(self.secret)}
        self.objects: dict[str, Object] = {}
        self.requests: list[Seen] = []
        self.faults: Callable[[Seen], Fault | None] = lambda _: None
        self.tokens = self.ends = self.signs = True
        self.lock = threading.RLock()
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="s3-emulator")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def now(self) -> float:
        return time.time() + self.skew

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the server and every connection to it, stalled ones too."""
        if self.closing.is_set():
            return
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], emulator: S3Emulator) -> None:
        self.emulator = emulator
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: socket.socket, client_address: Any) -> None:  # type: ignore[override]
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client was quicker

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """`requests` is the log."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(self.server.emulator.now() if timestamp is None else timestamp)

    def _serve(self) -> None:
        emulator = self.server.emulator
        parts = urlsplit(self.path)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        seen = Seen(
            self.command,
            parts.path,
            {name: value for name, value in pairs if name.lower() not in SECRETS},
            {name.lower(): value for name, value in self.headers.items() if name.lower() not in SECRETS},
        )
        emulator.requests.append(seen)
        fault = emulator.faults(seen) or Fault()
        size = int(self.headers.get("Content-Length") or 0)
        if fault.upload is not None:
            self.rfile.read(min(size, fault.upload))
            self._reset()
            return
        body = self.rfile.read(size)
        seen.size = len(body)
        if len(body) < size:
            self.close_connection = True
            return
        instead = s3_auth.Wrong(fault.status or 200, fault.code) if fault.status or fault.document else None
        answer = self._answer(parts.path, dict(pairs), seen, body) if fault.applied or not instead else Answer(0)
        if instead:
            answer = s3_answers.error(instead, fault.headers)
        elif fault.headers:
            given = {name.lower() for name, _ in fault.headers}
            answer = answer._replace(headers=(*(pair for pair in answer.headers if pair[0].lower() not in given), *fault.headers))
        if fault.lost:
            self._reset()
            return
        seen.status = answer.status
        self._send(answer, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 -- http.server's names

    def _answer(self, path: str, query: dict[str, str], seen: Seen, body: bytes) -> Answer:
        emulator = self.server.emulator
        url = f"http://{self.headers.get('Host', '')}{self.path}"
        try:
            self._check(url, body)
            return s3_answers.of(emulator, self.command, path, query, seen.headers, body)
        except s3_auth.Wrong as wrong:
            return s3_answers.error(wrong)

    def _check(self, url: str, body: bytes) -> None:
        emulator = self.server.emulator
        try:
            s3_auth.check(self.command, url, dict(self.headers), body, emulator.keys, emulator.quirks.regions, emulator.now())
        except s3_auth.Wrong as wrong:
            if emulator.signs and (emulator.ends or wrong.message != "Request has expired"):
                raise

    def _send(self, answer: Answer, fault: Fault) -> None:
        if fault.stall is not None and fault.answer is None:
            self._stall(fault.stall)
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("x-amz-request-id", "EMULATED")
        self.send_header("x-amz-bucket-region", self.server.emulator.quirks.regions[0])
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(answer.size if answer.size is not None else len(answer.body)))
        body = memoryview(b"" if self.command == "HEAD" else answer.body)
        self.end_headers()
        if fault.stall is not None:
            self.wfile.write(body[: fault.answer or 0])
            self._stall(fault.stall)
            self.wfile.write(body[fault.answer or 0 :])
            return
        end = len(body) if fault.answer is None else min(fault.answer, len(body))
        for at in range(0, end, _PIECE if fault.pause else max(end, 1)):
            if at:
                threading.Event().wait(fault.pause)
            self.wfile.write(body[at : min(end, at + _PIECE) if fault.pause else end])
        if fault.answer is not None:
            self.close_connection = True
            if fault.reset:
                self._reset()

    def _stall(self, until: threading.Event) -> None:
        end = time.monotonic() + LONGEST_STALL
        while not until.wait(0.05) and not self.server.emulator.closing.is_set() and time.monotonic() < end:
            continue

    def _reset(self) -> None:
        """End the connection by RST."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
