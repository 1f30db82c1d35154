"""A rented machine with a real SSH server: it takes our host key at its first start, is pinned by it, and lets our key in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.emulators.vast.boxes import SshBox
from tests.emulators.vast.server import Vast
from tests.vastai.desk import WISH, Desk
from torpor.clock import FakeClock
from torpor.machines.base import HostIdentity
from torpor.machines.vast import VastMachine
from torpor.ssh import keys
from torpor.ssh.base import HostKeyMismatch
from torpor.ssh.connect import SshShell


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("vast")
    clock = FakeClock()
    with Vast(folder / "boxes", clock=clock, boot=40.0, ssh=True) as vast:
        yield Desk(folder / "machines", vast, clock, ssh=True)


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keys.login_key(tmp_path_factory.mktemp("ssh"))


@pytest.fixture(scope="module")
def machine(desk: Desk, login: Path) -> VastMachine:
    host = keys.make()
    mine = HostIdentity(host.private, host.public, login.with_suffix(".pub").read_text().strip())
    made = desk.provider.rent(desk.offer(), desk.lease(), WISH, mine)
    made.wait_ready()
    return made


def shell(machine: VastMachine, login: Path, **changes: object) -> SshShell:
    target = machine.access().ssh
    assert target is not None
    return SshShell(msgspec.structs.replace(target, **changes), identity=str(login), patience=0)


def box(desk: Desk, machine: VastMachine) -> SshBox:
    found = desk.vast.service.instances[desk.number(machine)].box
    assert isinstance(found, SshBox)
    return found


def test_a_command_on_it(desk: Desk, machine: VastMachine, login: Path) -> None:
    with_key = shell(machine, login)
    try:
        assert with_key.run("echo up").text == "up"
        assert {".no_auto_tmux", ".ssh"} <= set(with_key.run("ls -a ~").text.splitlines())
        assert with_key.address == ("127.0.0.1", box(desk, machine).port), "directly, and not through the proxy"
    finally:
        with_key.close()


def test_another_host_key_is_refused(machine: VastMachine, login: Path) -> None:
    wrong = shell(machine, login, host_key=keys.make().public)
    with pytest.raises(HostKeyMismatch):
        wrong.run("echo up")


def test_the_script_runs_at_each_start(desk: Desk, machine: VastMachine, login: Path) -> None:
    """And leaves the same key, and one line for ours."""
    before = machine.access().ssh
    machine.stop()
    machine.create()
    assert machine.access().ssh == before
    again = shell(machine, login)
    try:
        assert again.run("wc -l < ~/.ssh/authorized_keys").text == "1"
    finally:
        again.close()


def test_the_end_of_it(desk: Desk, machine: VastMachine) -> None:
    folder = box(desk, machine).folder
    assert machine.destroy(desk.proof(machine)).state == "destroyed"
    assert not folder.exists()
