"""The test run itself: it keeps to this machine and to folders of its own."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.conftest import SETTINGS


@pytest.mark.parametrize("address", [("192.0.2.1", 443), ("2001:db8::1", 443, 0, 0)])
def test_other_machines_are_out_of_reach(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        with pytest.raises(RuntimeError, match="this machine only"):
            sender.connect(address)
        with pytest.raises(RuntimeError, match="this machine only"):
            sender.sendto(b"x", address)


def test_other_machines_are_not_looked_up() -> None:
    with pytest.raises(RuntimeError, match="this machine only"):
        socket.getaddrinfo("storage.example", 443)


def test_this_machine_is_in_reach(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))


def test_homes_are_temporary_and_empty() -> None:
    home = Path(os.environ["HOME"])
    assert home.name.startswith("torpor-tests-")
    assert not Path(os.environ["TORPOR_HOME"]).exists()
    assert sorted(name for name in os.environ if name.startswith(SETTINGS)) == [
        "PREFECT_HOME",
        "PREFECT_SERVER_ANALYTICS_ENABLED",
        "TORPOR_HOME",
    ]
