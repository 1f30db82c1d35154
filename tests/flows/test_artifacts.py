"""What is shown of a run is not the run: a server that does not take it fails nothing that was done."""

from __future__ import annotations

import asyncio
import http.server
import logging
import threading
from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks import artifacts
from torpor.errors import Interrupted


class _Full(http.server.BaseHTTPRequestHandler):
    """A server whose disk is full, say."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(500)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture(params=["gone", "full"])
def api(request: pytest.FixtureRequest) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Full)
    url = f"http://127.0.0.1:{server.server_port}/api"
    if request.param == "gone":
        server.server_close()
        yield url
        return
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield url
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.filterwarnings("ignore:Artifact creation outside:FutureWarning")  # a flow's own run would need a server that works
def test_a_table_that_is_not_taken_is_told(api: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("prefect"), "propagate", True)
    with temporary_settings({PREFECT_API_URL: api}):
        asyncio.run(artifacts.table("wake", [{"what": "x"}], "what was done"))
    assert "The artifact wake was not kept" in caplog.text


def test_nothing_else_is_caught() -> None:
    async def stopped() -> None:
        async with artifacts._shown("wake"):
            raise Interrupted("The run was stopped.")

    with pytest.raises(Interrupted):
        asyncio.run(stopped())
