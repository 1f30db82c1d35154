"""vast.ai on loopback: its HTTP API for torpor's client and for vast.ai's own package, with machines that are real SSH servers.

    with Vast(tmp_path, clock=clock, boot=0.5) as vast:
        vast.environment                       # VAST_URL, VAST_API_KEY, …
        vast.service.outbid(id); vast.service.resume(id); vast.service.offline(id); vast.service.exit(id)
        vast.service.next_trouble = "oci"      # of the next instance: or "never" boots, or "scheduling" for ever
        vast.service.take(offer_id)            # 410 from now on
        vast.service.stubborn.add(id)          # destroy answers success, and it lives on
        vast.faults.add("create", LOST)        # made, and the answer lost; CUT: nothing made; or a status with its body
        vast.limits = True                     # the service's limits on requests, by `clock`
        vast.requests

`ssh`: each running instance is an sshd of its own at its port, that ran its onstart script. Without it nobody can log in.
"""

from __future__ import annotations

import getpass
import json
import re
import socket
import socketserver
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

from tests.emulators.vast.boxes import FolderBox, boxes
from tests.emulators.vast.service import Answer, Service, no
from torpor.access import Access
from torpor.clock import SYSTEM, Clock
from torpor.ssh.base import Unreachable


class Cut(NamedTuple):
    """The connection is reset: before the request is looked at, or after it was done and before its answer."""

    done: bool


CUT, LOST = Cut(done=False), Cut(done=True)
Fault = Cut | tuple[int, Any]
TOO_MANY_JSON: Fault = (429, {"detail": "API requests too frequent endpoint threshold=4.5"})
TOO_MANY_TEXT: Fault = (429, "API requests too frequent")
QUOTA: Fault = (429, {"success": False, "error": "search_quota_exceeded", "msg": "Daily search quota exceeded; resets at 00:00 UTC"})

# Seconds between two calls of a kind, and the wait that is told; from the description of the API.
LIMITS = {"search": 6.0, "create": 4.5, "list": 1.0, "show": 2.0, "change": 1.0, "destroy": 3.0, "keys": 2.0}


class Seen(NamedTuple):
    kind: str
    method: str
    path: str
    body: Any


class Faults:
    """What goes wrong next, by kind of call, in order; None: nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[str, deque[Fault | None]] = defaultdict(deque)

    def add(self, kind: str, *faults: Fault | None) -> None:
        with self._lock:
            self._next[kind].extend(faults)

    def take(self, kind: str) -> Fault | None:
        with self._lock:
            return self._next[kind].popleft() if self._next[kind] else None


class Vast:
    def __init__(self, folder: Path, *, clock: Clock = SYSTEM, boot: float = 30.0, ssh: bool = False) -> None:
        self.service = Service(folder, boxes(folder, ssh=ssh), clock, boot)
        self.faults = Faults()
        self.limits = False
        self.slow_script = 0
        self.requests: list[Seen] = []
        self.defects: list[Exception] = []  # of the emulator: told at its end
        self._last: dict[str, float] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """For torpor; it waits for its turns only where `limits` are on."""
        made = {"VAST_API_KEY": self.service.key, "VAST_URL": self.url, "VAST_PACE": "1" if self.limits else "0"}
        return made if getpass.getuser() == "root" else made | {"VAST_SSH_USER": getpass.getuser()}

    @property
    def accounts(self) -> Access:
        return Access(self.environment)

    def shown(self, host: str, port: int) -> str:
        """The host key at an address, for machines that are folders: the first start shows that of the image for `slow_script` looks."""
        for instance in self.service.instances.values():
            if isinstance(instance.box, FolderBox) and instance.box.port == port and instance.up:
                self.slow_script -= 1
                return instance.box.host_key if self.slow_script < 0 else "ssh-ed25519 of-the-image"
        raise Unreachable("nobody is there")

    def seen(self, kind: str) -> list[Seen]:
        return [seen for seen in self.requests if seen.kind == kind]

    def too_soon(self, kind: str) -> Answer | None:
        every, now = LIMITS.get(kind, 1.0), self.service.now
        with self.service.lock:
            if not self.limits or now - self._last.get(kind, 0.0) >= every:
                self._last[kind] = now
                return None
            return 429, {"detail": f"API requests too frequent endpoint threshold={every}"}

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self.service.url = self.url
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join(timeout=60)
        self._server.close_all()
        self._server.server_close()
        self.service.close()
        if self.defects:
            raise self.defects[0]


Call = Callable[[Service, list[int], Any, dict[str, str]], Answer]
# method, path with numbers as #, kind of its limit, what it does
ROUTES: list[tuple[str, str, str, Call]] = [
    ("POST", "/api/v0/bundles", "search", lambda s, n, b, q: s.search(b)),
    ("PUT", "/api/v0/search/asks", "search", lambda s, n, b, q: s.search(b.get("q", {}))),
    ("PUT", "/api/v0/asks/#", "create", lambda s, n, b, q: s.create(n[0], b)),
    ("GET", "/api/v1/instances", "list", lambda s, n, b, q: s.page(q)),
    ("GET", "/api/v0/instances/#", "show", lambda s, n, b, q: s.show(n[0])),
    ("PUT", "/api/v0/instances/#", "change", lambda s, n, b, q: s.change(n[0], b)),
    ("PUT", "/api/v0/instances/bid_price/#", "change", lambda s, n, b, q: s.bid(n[0], b)),
    ("DELETE", "/api/v0/instances/#", "destroy", lambda s, n, b, q: s.destroy(n[0])),
    ("PUT", "/api/v0/instances/reboot/#", "change", lambda s, n, b, q: s.change(n[0], {})),
    ("PUT", "/api/v0/instances/request_logs/#", "logs", lambda s, n, b, q: s.request_logs(n[0], b)),
    ("GET", "/api/v0/users/current", "user", lambda s, n, b, q: (200, {"id": 123, "username": "me", "credit": 10.0, "ssh_key": None})),
    ("POST", "/api/v0/instances/#/ssh", "keys", lambda s, n, b, q: s.attach(n[0], b)),
    ("GET", "/api/v0/instances/#/ssh", "keys", lambda s, n, b, q: s.keys(n[0])),
    ("DELETE", "/api/v0/instances/#/ssh/#", "keys", lambda s, n, b, q: s.detach(n[0], n[1])),
    ("POST", "/api/v0/ssh", "keys", lambda s, n, b, q: s.add_account_key(b)),
    ("GET", "/api/v0/ssh", "keys", lambda s, n, b, q: (200, s.account_keys)),
    ("GET", "/api/v0/webhooks", "webhooks", lambda s, n, b, q: (200, {"success": True, "webhooks": list(s.hooks())})),
    ("POST", "/api/v0/webhooks", "webhooks", lambda s, n, b, q: s.add_hook(b)),
    ("PUT", "/api/v0/webhooks/#", "webhooks", lambda s, n, b, q: s.change_hook(n[0], b)),
    ("DELETE", "/api/v0/webhooks/#", "webhooks", lambda s, n, b, q: s.remove_hook(n[0])),
    ("POST", "/api/v0/webhooks/#/rotate-secret", "webhooks", lambda s, n, b, q: s.rotate_hook(n[0])),
    ("POST", "/api/v0/webhooks/#/test", "webhooks", lambda s, n, b, q: s.change_hook(n[0], {})),
]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, vast: Vast) -> None:
        self.vast = vast
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # without the look-up of its own name, which can take a second
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of the tests' concern."""

    def close_all(self) -> None:
        for connection in list(self._open):
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        """Quiet."""

    def _serve(self) -> None:
        vast, url = self.server.vast, urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = url.path.rstrip("/")
        numbers = [int(found) for found in re.findall(r"(?<=/)[0-9]+(?=/|$)", path)]
        pattern = re.sub(r"(?<=/)[0-9]+(?=/|$)", "#", path)
        found = next(((kind, call) for method, form, kind, call in ROUTES if (method, form) == (self.command, pattern)), None)
        body = json.loads(raw) if raw else {}
        kind = found[0] if found else "unknown"
        vast.requests.append(Seen(kind, self.command, self.path, body))
        if path.startswith("/logs/"):  # somewhere else, in truth: no key belongs there
            self._answer((400, "a key") if "Authorization" in self.headers else vast.service.logs.get(path, (404, "not yet")))
            return
        if self.headers.get("Authorization") != f"Bearer {vast.service.key}":
            self._answer(no(401, "auth_error", "Invalid user key"))
            return
        fault = vast.faults.take(kind)
        if isinstance(fault, tuple) and not isinstance(fault, Cut):
            self._answer(fault)
            return
        if fault == CUT:
            self._reset()
            return
        answer = vast.too_soon(kind)
        if answer is None and found is None:
            answer = no(404, "not_found", f"no such call: {self.command} {path}")
        elif answer is None and found is not None:
            try:
                answer = found[1](vast.service, numbers, body, dict(parse_qsl(url.query)))
            except Exception as error:  # noqa: BLE001  # told to the test
                vast.defects.append(error)
                answer = no(500, "internal", repr(error))
        assert answer is not None
        if fault == LOST:
            self._reset()
        else:
            self._answer(answer)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    def _answer(self, answer: Answer) -> None:
        status, body = answer
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
