"""A Prefect server that asks for a password and for CSRF tokens, as one that others can reach does."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

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


def seed(folder: Path, template: Path) -> bool:
    """Give a new server the database of one that was migrated, which takes ten seconds, if there is one by now."""
    if not template.exists():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(template, folder, dirs_exist_ok=True)
    return True


def keep(folder: Path, template: Path) -> None:
    """Keep the database of the server that runs on `folder` for others, unless somebody has."""
    if template.exists():
        return
    made = Path(mkdtemp(dir=template.parent))
    with sqlite3.connect(folder / "prefect.db") as source, sqlite3.connect(made / "prefect.db") as copy:
        source.backup(copy)
    source.close()
    copy.close()
    (made / "migrated").write_text(importlib.metadata.version("prefect"), encoding="ascii")
    try:
        os.rename(made, template)
    except OSError:  # another process of the tests was first
        shutil.rmtree(made)


@contextmanager
def running(folder: Path, template: Path) -> Iterator[str]:
    """The API's URL."""
    seeded = seed(folder, template)
    port = server._free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = clean_environment() | {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false" if seeded else "true",
        "PREFECT_SERVER_API_AUTH_STRING": PASSWORD,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=folder)
    try:
        until(lambda: server.answers(url), "a server", 180)
        keep(folder, template)
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
