"""Compute Engine over HTTP, for Google's own client, with faults by script.

with Gce(clock, hosts) as gce:
    gce.endpoint, gce.project, gce.service
    gce.faults.add("insert", Refusal(403, "quotaExceeded", "…"), LOST, Fails("ZONE_RESOURCE_POOL_EXHAUSTED"), STUCK)
    gce.requests
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import defaultdict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.emulators.gce.service import Hosts, Service, Turn
from tests.emulators.gce.shapes import Refusal, not_found
from torpor.clock import FakeClock

PROJECT = "torpor-tests"
Fault = Refusal | Turn | Literal["lost", "cut", "broken", "garbled"]
LOST: Literal["lost"] = "lost"  # it is done, and the connection is reset before the answer
BROKEN: Literal["broken"] = "broken"  # it is done, and the answer is an error of the service
GARBLED: Literal["garbled"] = "garbled"  # it is done, and the answer is a page for people
CUT: Literal["cut"] = "cut"  # the connection is reset, and nothing is done


class Seen(NamedTuple):
    """One request, before it was answered."""

    call: str
    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any]


class Faults:
    """What goes wrong next, by call, in order; None: nothing. `always` goes on for ever."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[str, deque[Fault]] = defaultdict(deque)
        self.always: dict[str, Fault] = {}

    def add(self, call: str, *faults: Fault) -> None:
        with self._lock:
            self._next[call].extend(faults)

    def take(self, call: str) -> Fault:
        with self._lock:
            return self._next[call].popleft() if self._next[call] else self.always.get(call)

    @property
    def left(self) -> int:
        return sum(map(len, self._next.values()))


class Gce:
    """One project, `torpor-tests`."""

    def __init__(self, clock: FakeClock, hosts: Hosts) -> None:
        self.project = PROJECT
        self.service = Service(PROJECT, clock, hosts)
        self.requests: list[Seen] = []
        self.faults = Faults()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        return {"GCE_ENDPOINT": self.endpoint, "GCE_PROJECT": self.project}

    def seen(self, call: str) -> list[Seen]:
        return [seen for seen in self.requests if seen.call == call]

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join(timeout=60)
        self._server.server_close()
        for instance in self.service.instances.values():
            self.service.hosts.halt(instance)

    def answer(self, seen: Seen, turn: Turn) -> dict[str, Any]:
        """Done under the service's lock: one request after the other."""
        service, parts = self.service, seen.path.strip("/").split("/")
        if parts[:3] != ["compute", "v1", "projects"] or parts[3] != self.project:
            raise not_found("/".join(parts[2:4]))
        request = seen.query.get("requestId", "")
        if seen.call == "aggregatedList":
            return service.aggregated(seen.query.get("filter", ""), seen.query.get("pageToken", ""))
        zone, name = parts[5], parts[7] if len(parts) > 7 else ""
        match seen.call:
            case "insert":
                return service.insert(zone, seen.body, request, turn)
            case "get":
                return service.look(zone, name)
            case "delete":
                return service.delete(zone, name, request, turn)
            case "start":
                return service.start(zone, name, request, turn)
            case "stop":
                return service.stop(zone, name, request, turn)
            case "setLabels":
                return service.set_labels(zone, name, seen.body, request, turn)
            case "setMetadata":
                return service.set_metadata(zone, name, seen.body, request, turn)
            case "getGuestAttributes":
                return service.guest_attributes(zone, name, seen.query.get("queryPath", ""))
            case "operations":
                return service.listed(zone, seen.query.get("filter", ""))
            case "wait":
                return service.wait(zone, name)
        raise not_found(seen.path)


def call_of(method: str, path: str) -> str:
    parts = path.strip("/").split("/")[4:]
    if parts == ["aggregated", "instances"]:
        return "aggregatedList"
    match (method, *parts[2:]):
        case ("POST", "instances"):
            return "insert"
        case ("GET", "instances", _):
            return "get"
        case ("DELETE", "instances", _):
            return "delete"
        case ("GET", "operations"):
            return "operations"
        case (_, "instances" | "operations", _, verb):
            return verb
    return ""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, gce: Gce) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.gce = gce

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request, client_address


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True  # or every other answer waits 40 ms for the client's acknowledgement
    server: _Server

    def _serve(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        path = unquote(url.path)
        seen = Seen(call_of(self.command, path), self.command, path, query, json.loads(body) if body else {})
        gce = self.server.gce
        with gce.service.lock:
            gce.requests.append(seen)
            fault = gce.faults.take(seen.call)
            if fault == CUT:
                return self._reset()
            try:
                if isinstance(fault, Refusal):
                    raise fault
                status, answer = 200, gce.answer(seen, None if fault in (LOST, BROKEN, GARBLED) else fault)
                if fault == BROKEN:
                    raise Refusal(503, "backendError", "Internal error. Please try again.")
            except Refusal as refusal:
                status, answer = refusal.status, refusal.body
            text = b"<html>Sorry</html>" if fault == GARBLED else json.dumps(answer).encode()
        if fault == LOST:
            return self._reset()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        return None

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RD)
        self.connection.close()

    def log_message(self, *arguments: object) -> None:
        del arguments
