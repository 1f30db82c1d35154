"""A hermetic run: own home folders, none of the developer's settings or credentials, no network but loopback."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import tempfile
from ipaddress import ip_address
from pathlib import Path

import pytest

pytest.register_assert_rewrite("torpor.testing", "tests.engine.lab")

SETTINGS = (
    "AWS_",
    "AZURE_",
    "B2_",
    "BOTO",
    "GCE_",
    "GCLOUD_",
    "GCS_",
    "GOOGLE_",
    "PREFECT_",
    "R2_",
    "S3_",
    "STORAGE_",
    "TORPOR_",
    "VAST_",
    "WASABI_",
    "XDG_",
)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

_home = tempfile.TemporaryDirectory(prefix="torpor-tests-")


def _clean_environment() -> None:
    """At import, before any test module reads a setting. Package caches stay where they are: they hold no settings."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("PIP_CACHE_DIR", str(caches / "pip"))
    os.environ.setdefault("UV_CACHE_DIR", str(caches / "uv"))
    for name in list(os.environ):
        if name.startswith(SETTINGS) or name.lower() in PROXIES:
            del os.environ[name]
    os.environ["HOME"] = _home.name
    os.environ["TORPOR_HOME"] = os.path.join(_home.name, "torpor")
    os.environ["PREFECT_HOME"] = os.path.join(_home.name, "prefect")
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["DO_NOT_TRACK"] = "1"


def _is_local(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if not isinstance(host, str) or host in ("", "localhost", socket.gethostname()):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _loopback_only(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook: no library can go round it, since the interpreter itself calls it before each connect and look-up."""
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[-1]
        host = address[0] if isinstance(address, tuple) else None  # a path of a Unix socket, else
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if not _is_local(host):
        raise RuntimeError(f"A test may talk to this machine only, not to {host!r} ({event}).")


_clean_environment()
sys.addaudithook(_loopback_only)


@pytest.fixture(autouse=True)
def _own_torpor_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, pins and caches of its own for each test; not made yet, as on a first run. Pytest's own folders are numbered: to make one,
    it looks at all there are."""
    monkeypatch.setenv("TORPOR_HOME", os.path.join(tempfile.mkdtemp(dir=_home.name), "torpor"))


def pytest_configure() -> None:
    """A run that a shell puts in the background ignores Ctrl-C, and so would all that the tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The one reason to skip: `gpu` tests on a machine without an NVIDIA GPU."""
    if not Path("/proc/driver/nvidia/version").exists():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU here"))


def pytest_collection_finish() -> None:
    """What thousands of tests are made of stays to the end: looking through it again and again takes minutes in all."""
    gc.collect()
    gc.freeze()
