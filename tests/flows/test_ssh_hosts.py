"""Hosts that are there, by their addresses: saved, woken elsewhere, and never ended, since nobody can be asked to."""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.hibernate import hibernate
from flows.wake import wake
from tasks.watch import StageState, watching
from tests.emulators.sshd import Sshd
from tests.flows.field import MIB, Field, fill, flow_run, saved
from tests.flows.pooled import PYTHON
from tests.flows.test_launch import Launched
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
    with pytest.raises(HostKeyMismatch):
        flow_run(wake(snapshot=snapshot, on=address(first, "x")))
    with pytest.raises(HostKeyMismatch):
        flow_run(hibernate(machine=address(first, "x")))


def follow(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Run a flow, which must take up a job that was begun."""
    heard: list[Event | StageState] = []
    with watching(heard.append):
        result: dict[str, Any] = flow_run(work)
    assert any("Following the job that was begun" in one.text for one in heard if isinstance(one, Event))
    return result


def test_a_run_that_was_killed_is_taken_up(field: Field, hosts: tuple[Sshd, Sshd], tmp_path: Path) -> None:
    """kill -9 of the process that runs the flow, in the middle of the upload and of the download: the job on the host goes on, and the
    next run follows it."""
    first, second = hosts
    large, there = fill(tmp_path / "large", 6 * MIB), first.workspace / "large"
    subprocess.run(["cp", "-a", large, there], check=True)
    field.repository()
    asked: dict[str, Any] = {"machine": address(first, "large"), "wipe": True, "rate": 3 * MIB}
    killed = Launched(field, "hibernate", asked)
    killed.read(until="upload")
    killed.kill()
    result = follow(hibernate(**asked))
    assert result["destroyed"] is True
    assert result["rounds"] == 1

    wanted: dict[str, Any] = {"snapshot": result["snapshot"], "on": address(second, "large"), "rate": 3 * MIB}
    killed = Launched(field, "wake", wanted)
    killed.read(until="download")
    killed.kill()
    assert follow(wake(**wanted))["files"] > 0
    assert compare_trees(large, second.workspace / "large") == []


def test_the_pool_does_the_same(field: Field, hosts: tuple[Sshd, Sshd], original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chosen by a parameter: the machine is a worker of the pool gpu, and the result is that of SSH."""
    first, _ = hosts
    monkeypatch.setenv("TORPOR_POOL_PYTHON", shlex.join(PYTHON))
    subprocess.run(["cp", "-a", original, first.workspace / "pooled"], check=True)
    heard: list[Event | StageState] = []
    with watching(heard.append):
        by_pool = flow_run(hibernate(machine=address(first, "pooled"), runner="gpu-pool", destroy_after=False))
    assert any("as flow run" in one.text for one in heard if isinstance(one, Event))
    over_ssh = flow_run(hibernate(machine=address(first, "pooled"), destroy_after=False))
    for figure in ("files", "raw_bytes", "problems", "codecs"):
        assert by_pool[figure] == over_ssh[figure]
    assert over_ssh["new_bytes"] < by_pool["new_bytes"]  # the records that the pool's job left are used
