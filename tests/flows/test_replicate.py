"""One snapshot on several machines at once: SSH hosts of one's own and rented ones. What fails on one is told, and the others are whole."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.replicate import MOST, replicate
from tests.emulators.sshd import Sshd
from tests.emulators.vast.boxes import SshBox
from tests.emulators.vast.instance import Instance
from tests.emulators.vast.server import Vast
from tests.flows.field import Field, flow_run, newest, saved
from torpor.clock import SYSTEM
from torpor.control.leases import Book
from torpor.errors import HostFailed, UsageError
from torpor.ssh import keys, trust
from torpor.testing.compare import compare_trees

WISH: dict[str, Any] = {"gpu": "rtx 4090", "region": "eu", "max_price": 0.5}


class Hosts:
    """Three SSH hosts. Each test has a workspace of its own on each, at `address`, which this computer sees as `folder`."""

    def __init__(self, hosts: list[Sshd], login: Path, name: str) -> None:
        self.hosts = hosts
        self.login = login
        self.name = name

    @property
    def addresses(self) -> list[str]:
        return [f"ssh://{host.user}@127.0.0.1:{host.port}{host.root.decode()}/{self.name}" for host in self.hosts]

    def folder(self, number: int) -> Path:
        return self.hosts[number].workspace / self.name

    def fill(self, number: int) -> None:
        self.folder(number).mkdir()
        (self.folder(number) / "notes.txt").write_text("mine")

    def whole(self, original: Path) -> list[bool]:
        return [self.folder(number).exists() and compare_trees(original, self.folder(number)) == [] for number in range(len(self.hosts))]


def workspace(instance: Instance) -> Path:
    assert isinstance(instance.box, SshBox)
    return instance.box.host.workspace


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Sshd], Path]]:
    """The machines, and a key that may log in to all of them."""
    folder = tmp_path_factory.mktemp("machines")
    login = keys.make()
    (folder / "login").write_text(login.private)
    (folder / "login").chmod(0o600)
    with Sshd(folder / "a") as one, Sshd(folder / "b") as two, Sshd(folder / "c") as three:
        for host in (one, two, three):
            host.authorize(login.public)
            trust.pin(folder, "127.0.0.1", host.port, host.host_key)
        yield [one, two, three], folder / "login"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(autouse=True)
def _engines_are_made_once(field: Field, bundles: Path) -> None:
    field.home.mkdir(mode=0o700)
    (field.home / "bundles").symlink_to(bundles)


@pytest.fixture
def hosts(running: tuple[list[Sshd], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    found, login = running
    monkeypatch.setenv("TORPOR_SSH_KEY", str(login))
    monkeypatch.setenv("TORPOR_KNOWN_HOSTS", str(login.with_name(trust.FILE)))
    return Hosts(found, login, tmp_path.name)


@pytest.fixture
def vast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vast]:
    with Vast(tmp_path / "vast", boot=0.2, ssh=True) as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.mark.usefixtures("api")
def test_one_that_is_not_empty_fails_alone(field: Field, hosts: Hosts, original: Path) -> None:
    first = saved(field, original)
    hosts.fill(1)
    done = flow_run(replicate(first, on=[*hosts.addresses, hosts.addresses[0]]))  # one that is named twice is one machine
    assert set(done) == {"snapshot", "machines", "whole", "failed", "seconds"}
    assert (done["snapshot"], done["whole"], done["failed"]) == (first, 2, 1)
    assert [one["machine"] for one in done["machines"]] == hosts.addresses
    assert [one["ok"] for one in done["machines"]] == [True, False, True]
    assert set(done["machines"][1]) == {"machine", "ok", "failure"}
    failure = done["machines"][1]["failure"]
    assert failure["error"] == "TargetNotEmpty"
    assert failure["remedy"]
    assert hosts.whole(original) == [True, False, True]
    assert [path.name for path in hosts.folder(1).iterdir()] == ["notes.txt"]
    seen = newest("replicate")
    assert seen.state == "Completed"
    table = str(seen.artifacts["replicate"].data)
    assert all(address in table for address in hosts.addresses)


def test_one_that_is_switched_off_by_the_command_line(field: Field, hosts: Hosts, original: Path, api: str) -> None:
    first = saved(field, original)
    hosts.hosts[2].stop()
    try:
        words = [word for address in hosts.addresses for word in ("--on", address)]
        done = subprocess.run(
            [sys.executable, "-m", "torpor.cli", "replicate", first, *words, "--json"],
            env=field.environment | {"PREFECT_API_URL": api}, capture_output=True, check=False,
        )  # fmt: skip
    finally:
        hosts.hosts[2].start()
    assert done.returncode == 3, done.stderr.decode()
    result = json.loads(done.stdout.splitlines()[-1])
    assert [one["ok"] for one in result["machines"]] == [True, True, False]
    assert hosts.whole(original) == [True, True, False]
    assert f"{hosts.addresses[2]} is not whole" in done.stderr.decode()
    assert "2 of 3 machines are whole" in done.stderr.decode()


@pytest.mark.usefixtures("api")
def test_if_none_is_whole_it_fails(field: Field, hosts: Hosts, original: Path) -> None:
    first = saved(field, original)
    for number in range(3):
        hosts.fill(number)
    with pytest.raises(HostFailed, match="None of 3 machines is whole") as raised:
        flow_run(replicate(first, on=hosts.addresses))
    assert raised.value.remedy
    assert newest("replicate").state == "Failed"
    assert hosts.whole(original) == [False] * 3


@pytest.mark.usefixtures("api")
def test_how_many_there_may_be(field: Field) -> None:
    for on, count in (([], 0), ([], MOST + 1), (["local:a"], MOST), (["local:a"], -1)):
        with pytest.raises(UsageError, match="machines were asked for"):
            flow_run(replicate(on=on, count=count))
    assert not field.store.exists()


@pytest.mark.usefixtures("api")
def test_of_two_rented_ones_the_one_that_fails_is_destroyed(field: Field, vast: Vast, original: Path, tmp_path: Path) -> None:
    """Both try to make the same folder of this computer, and one of them is too late."""
    first = saved(field, original)
    done = flow_run(replicate(first, count=2, after=f"mkdir '{tmp_path}/first'", **WISH))
    assert (done["whole"], done["failed"]) == (1, 1)
    assert [seen.kind for seen in vast.requests].count("search") == 1
    (whole,) = [one for one in done["machines"] if one["ok"]]
    (failed,) = [one for one in done["machines"] if not one["ok"]]
    assert failed["machine"] in ("rented-1", "rented-2")
    assert "exit status 1" in failed["failure"]["what"]
    records = Book(field.repository().home, SYSTEM).all()
    assert sorted(record.phase for record in records) == ["ended", "kept"]  # neither tried the other's offer
    (kept,) = [record for record in records if record.phase == "kept"]
    assert (kept.address, kept.lease.id, []) == (whole["machine"], whole["lease"], whole["tried"])
    assert vast.service.billed() == [kept.lease.kept]
    (instance,) = vast.service.instances.values()
    assert compare_trees(original, workspace(instance)) == []
