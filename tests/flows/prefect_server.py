"""A Prefect server that asks for a password and for CSRF tokens, as one that others can reach does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)

from flows import server
from tests.flows.field import until
from torpor.remote.host import clean_environment

PASSWORD = "admin:open-sesame-4711"


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The API's URL."""

    port = server._free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = clean_environment() | {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_API_AUTH_STRING": PASSWORD,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=folder)
    try:
        until(lambda: server.answers(url), "a server", 180)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def named(url: str) -> Iterator[None]:
    """This process's Prefect settings name the server and its password until the block ends."""
    settings = {
        PREFECT_API_URL: url,
        PREFECT_API_AUTH_STRING: PASSWORD,
        PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: True,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    with temporary_settings(settings):
        yield
