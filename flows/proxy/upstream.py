"""The Prefect server as the proxy speaks with it: with the password and the CSRF token that the host does not have."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self
from uuid import uuid4

import httpx

ATTEMPTS = 6  # for an event: a client that was told that it arrived does not send it again
PAUSE = 0.1  # seconds before the second attempt; each next one is twice as long


class Upstream:
    """`api`: the server's URL, with `/api`. `password`: PREFECT_API_AUTH_STRING of this side; empty for none. For one event loop."""

    def __init__(self, api: str, password: str = "", *, timeout: float = 60.0) -> None:
        self._api = api.rstrip("/")
        self._password = password
        self._own = {"Authorization": "Basic " + base64.b64encode(password.encode()).decode()} if password else {}
        self._name = str(uuid4())
        self._csrf: dict[str, str] | None = None
        self._client = httpx.AsyncClient(timeout=timeout, headers=self._own)

    def __repr__(self) -> str:
        return f"Upstream({self._api})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def send(self, method: str, path: str, body: bytes = b"") -> httpx.Response:
        """One request. Raises `httpx.HTTPError` if there is no answer."""
        answer = await self._send(method, path, body, fresh=False)
        if answer.status_code == 403 and method != "GET" and "CSRF" in answer.text:
            answer = await self._send(method, path, body, fresh=True)
        return answer

    async def _send(self, method: str, path: str, body: bytes, *, fresh: bool) -> httpx.Response:
        headers = {"Content-Type": "application/json"} if body else {}
        if method != "GET":
            headers |= await self._token(fresh)
        return await self._client.request(method, self._api + path, content=body or None, headers=headers)

    async def _token(self, fresh: bool) -> dict[str, str]:
        """Headers that show that a request is meant; none where the server asks for none."""
        if self._csrf is None or fresh:
            answer = await self._client.get(f"{self._api}/csrf-token", params={"client": self._name})
            token = {"Prefect-Csrf-Token": answer.json()["token"], "Prefect-Csrf-Client": self._name} if answer.status_code == 200 else {}
            self._csrf = token
        return self._csrf

    async def run_of(self, task: str) -> str | None:
        """The flow run that a task run belongs to; None if the server knows no such task run. Raises `httpx.HTTPError`."""
        answer = await self.send("GET", f"/task_runs/{task}")
        if answer.status_code == 404:
            return None
        return str(answer.raise_for_status().json()["flow_run_id"])

    async def emit(self, event: dict[str, Any]) -> None:
        """Hand one event to the server. Raises `httpx.HTTPError` if it can't be."""
        body = json.dumps([event]).encode()
        for attempt in range(ATTEMPTS):
            try:
                answer = await self.send("POST", "/events", body)
                if answer.status_code < 500:
                    answer.raise_for_status()
                    return
            except httpx.TransportError:
                if attempt == ATTEMPTS - 1:
                    raise
            await asyncio.sleep(PAUSE * 2**attempt)
        answer.raise_for_status()

    @asynccontextmanager
    async def subscribe(self, subscription: dict[str, Any]) -> AsyncIterator[AsyncIterator[str | bytes]]:
        """The messages of `/events/out`. Raises `OSError`, `websockets.WebSocketException`."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import SecurityError
        from websockets.typing import Subprotocol

        url = self._api.replace("http", "ws", 1) + "/events/out"
        async with connect(url, subprotocols=[Subprotocol("prefect")], additional_headers=self._own) as socket:
            await socket.send(json.dumps({"type": "auth", "token": self._password or None}))
            if json.loads(await socket.recv()).get("type") != "auth_success":
                raise SecurityError("the server took no password of this side")
            await socket.send(json.dumps(subscription))
            yield aiter(socket)
