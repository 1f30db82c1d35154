"""Hosts that are there, by their addresses: saved, woken elsewhere, and never ended, since nobody can be asked to."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.hibernate import hibernate
from flows.wake import wake
from tasks.watch import StageState, watching
from tests.emulators.sshd import Sshd
from tests.flows.field import Field, flow_run, saved
from torpor.errors import TargetNotEmpty
from torpor.events import Event
from torpor.ssh import trust
from torpor.ssh.base import HostKeyMismatch
from torpor.testing.compare import compare_trees

pytestmark = pytest.mark.usefixtures("api")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sshd, Sshd]]:
    with Sshd(tmp_path_factory.mktemp("a")) as first, Sshd(tmp_path_factory.mktemp("b")) as second:
        second.authorize(first.login.public)
        yield first, second


@pytest.fixture(autouse=True)
def _known(hosts: tuple[Sshd, Sshd], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for host in hosts:
        trust.pin(tmp_path, "127.0.0.1", host.port, host.host_key)
    monkeypatch.setenv("TORPOR_SSH_KEY", hosts[0].target.identity)
    monkeypatch.setenv("TORPOR_KNOWN_HOSTS", str(tmp_path / trust.FILE))


def address(host: Sshd, folder: str) -> str:
    return f"ssh://{getpass.getuser()}@127.0.0.1:{host.port}{os.fsdecode(host.root)}/{folder}"


def test_from_one_to_another(field: Field, hosts: tuple[Sshd, Sshd], original: Path) -> None:
    first, second = hosts
    flow_run(wake(snapshot=saved(field, original), on=address(first, "mine")))
    there = first.workspace / "mine"
    assert compare_trees(original, there) == []
    (there / "more").write_text("x" * 5000)

    heard: list[Event | StageState] = []
    with watching(heard.append):
        kept = flow_run(hibernate(machine=address(first, "mine")))
    assert kept["destroyed"] is False
    assert (there / "more").exists()
    assert any(isinstance(one, Event) and one.level == "warning" and "was not ended" in one.text for one in heard)

    gone = flow_run(hibernate(machine=address(first, "mine"), wipe=True))
    assert gone["destroyed"] is True
    assert not there.exists() or os.listdir(there) == []

    woken = flow_run(wake(snapshot="latest", on=address(second, "yours")))
    assert woken["machine"] == address(second, "yours")
    assert (second.workspace / "yours" / "more").read_text() == "x" * 5000


def test_what_is_there_is_not_written_over(field: Field, hosts: tuple[Sshd, Sshd], original: Path) -> None:
    first, _ = hosts
    (first.workspace / "full").mkdir()
    (first.workspace / "full" / "work").write_text("mine")
    with pytest.raises(TargetNotEmpty):
        flow_run(wake(snapshot=saved(field, original), on=address(first, "full")))
    assert (first.workspace / "full" / "work").read_text() == "mine"


def test_a_wrong_host_key(field: Field, hosts: tuple[Sshd, Sshd], original: Path, tmp_path: Path) -> None:
    """Somebody else answers: nothing is sent to them, and nothing is destroyed."""
    first, second = hosts
    snapshot = saved(field, original)
    (tmp_path / trust.FILE).unlink()
    trust.pin(tmp_path, "127.0.0.1", first.port, second.host_key)
    for run in (lambda: wake(snapshot=snapshot, on=address(first, "x")), lambda: hibernate(machine=address(first, "x"))):
        with pytest.raises(HostKeyMismatch):
            flow_run(run())
