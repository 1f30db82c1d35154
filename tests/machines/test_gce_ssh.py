"""A machine of Google's is reached by SSH: real sshd processes, whose host key was installed by the start-up script."""

from __future__ import annotations

import getpass
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.gce.field import ZONE, Field
from tests.emulators.gce.hosts import Machines
from tests.emulators.gce.server import Gce
from torpor.clock import FakeClock
from torpor.machines.base import Access


@pytest.fixture
def hosts(tmp_path: Path) -> Machines:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return Machines(tmp_path / "hosts", server.getsockname()[1])


@pytest.fixture
def field(tmp_path: Path, hosts: Machines) -> Iterator[Field]:
    clock = FakeClock()
    with Gce(clock, hosts) as gce:
        field = Field(tmp_path, gce, clock)
        field.settings = {"GCE_SSH_PORT": str(hosts.port), "GCE_SSH_USER": getpass.getuser()}
        (tmp_path / "login").write_text(field.login.private)
        (tmp_path / "login").chmod(0o600)
        yield field


def ssh(field: Field, access: Access, command: str) -> subprocess.CompletedProcess[str]:
    """By OpenSSH's own client, which takes no other host key than the one that is pinned."""
    target = access.ssh
    assert target is not None
    (field.folder / "known").write_text(f"[{target.host}]:{target.port} {target.host_key}\n")
    options = [f"UserKnownHostsFile={field.folder}/known", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes"]
    words = ["ssh", "-F", "none", "-i", f"{field.folder}/login", "-p", str(target.port), "-l", target.user]
    line = [*words, *(word for option in options for word in ("-o", option)), target.host, command]
    return subprocess.run(line, check=False, capture_output=True, text=True, timeout=60)


def test_the_pinned_machine_answers_after_each_start(field: Field, hosts: Machines) -> None:
    machine = field.rent()
    first = machine.access()
    done = ssh(field, first, "echo here; echo kept >work")
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr
    field.provider.hand_over(machine.address, field.lease)
    field.gce.service.preempt(ZONE, field.name)
    assert ssh(field, first, "true").returncode == 255
    assert machine.create().state == "running"
    second = machine.access()
    done = ssh(field, second, "cat work")
    assert (done.returncode, done.stdout) == (0, "kept\n"), done.stderr
    assert first.ssh != second.ssh
    machine.destroy(field.proof(machine))
    assert hosts.running == {}
    assert ssh(field, second, "true").returncode == 255


def test_a_machine_that_is_not_ready_is_not_the_pinned_one(field: Field, hosts: Machines) -> None:
    """Why it is said to be starting: its SSH server answers, with another key."""
    hosts.slow = True
    machine = field.rent()
    assert machine.status().state == "starting"
    field.gce.faults.always = {}
    field.gce.service.attributes[field.instance["id"]] = {"torpor/ready": "too soon"}
    done = ssh(field, machine.access(), "true")
    assert done.returncode == 255
    assert "verification failed" in done.stderr
