"""The proxy itself: a server on loopback, where the host's tunnel ends, for as long as one job runs.

    with Proxy(api, scope, password=…, refused=logger.warning) as proxy:
        proxy.port, proxy.password      # what the host is told

The host's client logs in with a password that was made for this job and is worth nothing anywhere else; whoever else reaches the port,
on either side, is refused. What a request may be is said by flows.proxy.rules and flows.proxy.events.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import secrets
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import httpx

from flows.proxy import events
from flows.proxy.rules import BODY_MAX, Answer, judge
from flows.proxy.scope import Refused, Scope
from flows.proxy.upstream import Upstream

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

MESSAGE_MAX = 1024 * 1024  # bytes of an event
CLOSING = 10  # seconds for what is under way when the job ends
HELLO = 30.0  # seconds for the first messages of a web socket
TASKS_MAX = 10_000  # task runs that one run may have
ARTIFACTS_MAX = 1000
KEPT_MAX = 64 * 1024 * 1024  # bytes of logs and events that one run may leave with the server
CONNECTIONS = 64

Refusal = Callable[[str], Any]


class Proxy:
    """`refused` is told what was refused: method, path and a word, never a body. It is called on the proxy's thread."""

    def __init__(self, api: str, scope: Scope, *, password: str = "", refused: Refusal = lambda _: None) -> None:
        self.password = f"torpor:{secrets.token_urlsafe(24)}"
        self._basic = "Basic " + base64.b64encode(self.password.encode()).decode()
        self._scope = scope
        self._refused = refused
        self._api = api
        self._server_password = password
        self._tasks: set[str] = set()
        self._artifacts: frozenset[str] = frozenset()
        self._kept = 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._socket.getsockname()[1]

    def __repr__(self) -> str:
        return f"Proxy({self.port})"

    def __enter__(self) -> Self:
        import uvicorn
        from starlette.applications import Starlette
        from starlette.routing import Route, WebSocketRoute

        routes = [
            WebSocketRoute("/api/events/in", self._events_in),
            WebSocketRoute("/api/events/out", self._events_out),
            WebSocketRoute("/{path:path}", self._no_socket),
            Route("/{path:path}", self._request, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), http="h11", ws="websockets-sansio", loop="asyncio", lifespan="off", log_config=None, access_log=False,
            server_header=False, ws_max_size=MESSAGE_MAX, timeout_graceful_shutdown=CLOSING, limit_concurrency=CONNECTIONS,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="prefect-proxy")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    async def _serve(self) -> None:
        async with Upstream(self._api, self._server_password) as self._upstream:
            await self._server.serve(sockets=[self._socket])

    async def _request(self, request: Request) -> Response:
        from starlette.responses import Response

        path = request.scope["raw_path"].decode("ascii", "replace")
        try:
            if not hmac.compare_digest(request.headers.get("authorization", "").encode(), self._basic.encode()):
                raise Refused("no password")
            below = path.removeprefix("/api")
            if below == path:
                raise Refused("not for a host")
            verdict = judge(self._scope, self._artifacts, request.method, below, await _body(request))
            if isinstance(verdict, Answer):
                return Response(verdict.body, verdict.status, media_type="application/json")
            if verdict.kept and not self._has_room(len(verdict.body)):
                return Response(b"", 201, media_type="application/json")
            if verdict.made and len(self._artifacts) >= ARTIFACTS_MAX:
                raise Refused("too many artifacts")
            for task in verdict.tasks:
                await self._own(task)
            answer = await self._upstream.send(verdict.method, verdict.path, verdict.body)
            content = answer.content
            if answer.is_success and verdict.answer is not None:
                content = json.dumps(verdict.answer(self._scope, answer.json())).encode()
            if answer.is_success and verdict.made:
                self._artifacts |= {answer.json()["id"]}
        except Refused as refusal:
            self._refused(f"{request.method} {_shown(path)}: {refusal}")
            return Response(b'{"detail":"Refused by torpor."}', 403, media_type="application/json")
        except httpx.HTTPError:  # a client tries that again
            return Response(b'{"detail":"The Prefect server does not answer."}', 503, media_type="application/json")
        return Response(content, answer.status_code, media_type="application/json")

    async def _own(self, task: str) -> None:
        """Raises `Refused` for a task run that is another flow run's."""
        if task in self._tasks:
            return
        if len(self._tasks) >= TASKS_MAX or await self._upstream.run_of(task) not in (None, self._scope.run):
            raise Refused("a task of another run")
        self._tasks.add(task)

    def _has_room(self, size: int) -> bool:
        """Whether the server may keep so many bytes more of this run's words; the rest is dropped, and that is told once."""
        if self._kept <= KEPT_MAX < self._kept + size:
            self._refused("logs and events beyond what one run may say")
        self._kept += size
        return self._kept <= KEPT_MAX

    async def _no_socket(self, socket: WebSocket) -> None:
        """403 before there is a web socket. A worker then asks by requests instead."""
        path = socket.scope["raw_path"].decode("ascii", "replace")
        if path != f"/api/work_pools/{quote(self._scope.pool, safe='')}/workers/connect":  # every worker tries that
            self._refused(f"WS {_shown(path)}: not for a host")
        await socket.close()

    async def _hello(self, socket: WebSocket) -> bool:
        """Prefect's first messages: the password, and that it is right."""
        await socket.accept(subprotocol="prefect")
        token = json.loads(await asyncio.wait_for(socket.receive_text(), HELLO)).get("token")
        if isinstance(token, str) and hmac.compare_digest(token.encode(), self.password.encode()):
            await socket.send_text('{"type":"auth_success"}')
            return True
        self._refused(f"WS {_shown(socket.url.path)}: no password")
        await socket.close(1008, "authentication failed")
        return False

    async def _events_in(self, socket: WebSocket) -> None:
        from starlette.websockets import WebSocketDisconnect

        try:
            if not await self._hello(socket):
                return
            while True:
                await self._say(await socket.receive_text())
        except (ValueError, KeyError, TimeoutError):  # what is not Prefect's
            await socket.close(1008)
        except httpx.HTTPError:  # the client connects again, and says what it does not know to have arrived
            await socket.close(1011)
        except WebSocketDisconnect:
            pass

    async def _say(self, text: str) -> None:
        try:
            said = events.incoming(self._scope, text)
            if said is not None:
                if said.task:
                    await self._own(said.task)
                if self._has_room(len(text)):
                    await self._upstream.emit(said.event)
        except Refused as refusal:
            self._refused(_shown(f"WS /api/events/in: {refusal}"))

    async def _events_out(self, socket: WebSocket) -> None:
        from starlette.websockets import WebSocketDisconnect
        from websockets.exceptions import WebSocketException

        try:
            if not await self._hello(socket):
                return
            wanted = events.subscription(self._scope, await asyncio.wait_for(socket.receive_text(), HELLO))
            async with self._upstream.subscribe(wanted) as heard:
                await _first(_until_gone(socket), self._pass_on(socket, heard))
        except Refused as refusal:
            self._refused(f"WS /api/events/out: {refusal}")
            await socket.close(1008)
        except (ValueError, KeyError, TimeoutError):
            await socket.close(1008)
        except (OSError, WebSocketException):
            await socket.close(1011)
        except WebSocketDisconnect:
            pass

    async def _pass_on(self, socket: WebSocket, heard: Any) -> None:
        async for message in heard:
            if events.outgoing(self._scope, message):
                await socket.send_text(message if isinstance(message, str) else message.decode())
        await socket.close(1011)


async def _until_gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _first(*works: Any) -> None:
    """Until one is over; the others are ended."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _body(request: Request) -> bytes:
    """Raises `Refused` if it is larger than any of a worker's."""
    found = bytearray()
    async for piece in request.stream():
        found += piece
        if len(found) > BODY_MAX:
            raise Refused("a body too large")
    return bytes(found)


def _shown(path: str) -> str:
    """A path for the log, as the host wrote it and no longer than it needs to be."""
    return "".join(c if c.isprintable() else "?" for c in path[:200])
