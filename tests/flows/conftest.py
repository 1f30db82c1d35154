"""One Prefect server for all tests of flows, and a control side of its own for each."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows import server
from tests.emulators.sshd import Sshd
from tests.flows import prefect_server
from tests.flows.field import Field, fill

SOCKETS = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Prefect 3.8.8 leaves a client open each time it asks for the default result storage: twice a run."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(SOCKETS)


@pytest.fixture(autouse=True)
def _collect_sockets() -> Iterator[None]:
    """Here and not in the next test, which may not be about flows."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first server's database is kept for the others, of all processes of this run."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "migrated"


@pytest.fixture(scope="session")
def server_home(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Path:
    folder = tmp_path_factory.mktemp("server")
    prefect_server.seed(folder / "prefect", template)
    return folder


@pytest.fixture(scope="session")
def api(server_home: Path, template: Path) -> Iterator[str]:
    """A real server. No heartbeats: flows that are not async would wait a second for their last."""
    with server.running(server_home) as url, temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        prefect_server.keep(server_home / "prefect", template)
        gc.collect()
        gc.freeze()  # Prefect's modules, too
        yield url


@pytest.fixture
def field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Field:
    """A control side whose recovery key counts as written down."""
    found = Field(tmp_path / "home", tmp_path / "store")
    monkeypatch.setenv("TORPOR_HOME", str(found.home))
    monkeypatch.setenv("TORPOR_STORAGE", found.store.as_uri())
    monkeypatch.setenv("TORPOR_RECOVERY_CONFIRMED", "1")
    return found


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return fill(tmp_path / "original")


@pytest.fixture(scope="session")
def guarded_server(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Iterator[str]:
    """Another server, with a password."""
    with prefect_server.running(tmp_path_factory.mktemp("guarded"), template) as url:
        yield url


@pytest.fixture(scope="module")
def guarded(guarded_server: str) -> Iterator[None]:
    """This process's Prefect settings name that server while a module's tests run."""
    with prefect_server.named(guarded_server):
        yield


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("box")) as made:
        yield made
