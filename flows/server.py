"""An API for flows: the one that PREFECT_API_URL or the user's Prefect profile names, or else a server of our own, for as long as
it is needed.

Below TORPOR_HOME/prefect: the database, `server.log`, `server.json` (pid and URL of the server that runs), two locks. Runs that
overlap share one server; the last to leave ends it. One that was left behind by a kill is found and used by the next run.
This module imports Prefect only while the server starts, which takes longer.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from torpor.errors import HostFailed, MissingDependency
from torpor.remote.host import clean_environment

WAIT = 90.0  # seconds for a server to answer; 13 on two idle cores with a new database
OURS = ("PREFECT_", "DO_NOT_TRACK")
ATTEMPTS = 3  # ports to try: another process may take one between our look and the server's


@contextmanager
def running(home: Path) -> Iterator[str]:
    """The API's URL; the environment of this process and of its children names it until the block ends. `home` is TORPOR_HOME."""
    if importlib.util.find_spec("prefect") is None:
        raise missing()
    if chosen := named():
        yield chosen
        return
    folder = home / "prefect"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _environment(), open(folder / "users.lock", "w", encoding="ascii") as users:
        with _alone(folder):
            fcntl.flock(users, fcntl.LOCK_SH)
            server = _find(folder) or _start(folder)
        try:
            _name(server.url, folder)
            with _settings(server.url):
                yield server.url
        finally:
            _drain()
            with _alone(folder):
                server.stop_unless_used(users)


def named() -> str:
    """The API that this user named; empty if none."""
    return os.environ.get("PREFECT_API_URL") or _of_profile()


async def reach(url: str) -> dict[str, object]:
    """Raise `HostFailed` unless the API that the user named answers."""
    try:
        from prefect.client.orchestration import get_client

        async with get_client() as client:
            failed = await client.api_healthcheck()
    except Exception as error:  # noqa: BLE001 - a URL that is none fails in Prefect's settings, in httpx or in its address
        failed = error
    if failed is not None and not hasattr(failed, "response"):  # one that answers, if only with a refusal, tells the run itself
        words = " ".join(f"Prefect's API at {url} can't be used: {type(failed).__name__}: {failed}".split())
        raise HostFailed(
            f"{re.sub(r'//[^/@ ]*@', '//…@', words)[:400].rstrip('.')}.",
            safe="Nothing was begun.",
            remedy="Start it, or unset PREFECT_API_URL (in a profile of Prefect's: `prefect config unset PREFECT_API_URL`): torpor then "
            "starts a server of its own.",
        )
    return {}


def _of_profile() -> str:
    """The API that `prefect config set PREFECT_API_URL=…` or `prefect cloud login` chose for this user; empty without such a choice."""
    folder = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or folder / "profiles.toml")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    profile = data.get("profiles", {}).get(os.environ.get("PREFECT_PROFILE") or data.get("active", ""), {})
    return str(profile.get("PREFECT_API_URL", ""))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time starts or ends the server."""
    with open(folder / "start.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _name(url: str, folder: Path) -> None:
    os.environ["PREFECT_API_URL"] = url
    os.environ["PREFECT_HOME"] = str(folder)


@contextmanager
def _environment() -> Iterator[None]:
    """What the block changes of Prefect's variables ends with it."""
    before = {name: value for name, value in os.environ.items() if name.startswith(OURS)}
    os.environ.update({"PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"})
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith(OURS)]:
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _settings(url: str) -> Iterator[None]:
    """Where Prefect was imported before, it read the environment then."""
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE, temporary_settings

    with temporary_settings({PREFECT_API_URL: url, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}):
        yield


def _drain() -> None:
    """Send what this process still has to say to the server: logs, and the states of tasks, which travel as events."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=10, at_exit=False)


def missing() -> MissingDependency:
    return MissingDependency(
        "Prefect is not installed here, and hibernate and wake are Prefect flows.",
        safe="Nothing was changed.",
        remedy="In a checkout of torpor: ./dev setup; elsewhere: pip install prefect==3.8.8 'fastapi<0.151'.",
    )


class Server:
    """A server that answers, ours or one that an earlier run left."""

    def __init__(self, folder: Path, pid: int, url: str, process: subprocess.Popen[bytes] | None = None) -> None:
        self.folder = folder
        self.pid = pid
        self.url = url
        self._process = process

    def stop_unless_used(self, users: IO[str]) -> None:
        """End the server if nobody else holds the lock of its users."""
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        (self.folder / "server.json").unlink(missing_ok=True)
        self._signal(signal.SIGTERM)
        if not self._gone(10):
            self._signal(signal.SIGKILL)
            self._gone(10)

    def _signal(self, signum: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def _gone(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._process.poll() is not None if self._process is not None else not _is_server(self.pid):
                return True
            time.sleep(0.02)
        return False


def _is_server(pid: int) -> bool:
    """Whether this process is a Prefect server: a pid may have been given to another since it was written down."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"prefect\0server\0start\0" in command


def answers(url: str) -> bool:
    """Whether an API says that it is healthy."""
    host, _, port = url.removeprefix("http://").removesuffix("/api").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=2)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _find(folder: Path) -> Server | None:
    """A server that runs already."""
    try:
        known = json.loads((folder / "server.json").read_text(encoding="utf-8"))
        pid, url = int(known["pid"]), str(known["url"])
    except (OSError, ValueError, KeyError):
        return None
    return Server(folder, pid, url) if _is_server(pid) and answers(url) else None


def _start(folder: Path) -> Server:
    """Start a server and wait until it answers. Raises `HostFailed`."""
    version = importlib.metadata.version("prefect")
    migrated = folder / "migrated"
    ready = migrated.exists() and migrated.read_text(encoding="ascii") == version
    for _ in range(ATTEMPTS):
        port = _free_port()
        process = _spawn(folder, port, ready)
        server = Server(folder, process.pid, f"http://127.0.0.1:{port}/api", process)
        _name(server.url, folder)  # before Prefect is imported, which reads it once
        try:
            if _wait(server, process):
                migrated.write_text(version, encoding="ascii")
                (folder / "server.json").write_text(json.dumps({"pid": server.pid, "url": server.url}), encoding="utf-8")
                return server
        except BaseException:
            process.kill()
            process.wait()
            raise
        ready = False
    raise HostFailed(
        "The Prefect server did not start.",
        safe="Nothing was changed.",
        remedy=f"Read {folder / 'server.log'}; or start one with `prefect server start` and set PREFECT_API_URL.",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _spawn(folder: Path, port: int, migrated: bool) -> subprocess.Popen[bytes]:
    """The server gets none of this process's secrets, and no signal of its terminal."""
    environment = clean_environment() | {
        "PREFECT_HOME": str(folder),
        "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false" if migrated else "true",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with open(folder / "server.log", "wb") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=folder, start_new_session=True
        )


def _wait(server: Server, process: subprocess.Popen[bytes]) -> bool:
    """Import Prefect, which this process needs next, then wait until the server answers; False if it ended or takes too long."""
    until = time.monotonic() + WAIT
    import prefect.flows  # noqa: F401

    while process.poll() is None and time.monotonic() < until:
        if answers(server.url):
            return True
        time.sleep(0.05)
    if process.poll() is None:
        process.kill()
        process.wait()
    return False
