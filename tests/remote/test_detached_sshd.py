"""Long jobs on machines that are real sshd processes: connections break, machines lose their power."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.door import Door
from tests.emulators.sshd import Sshd
from tests.engine.lab import Lab, same, write
from tests.remote.gear import ROOT, SMALL, at_ask
from torpor.access import Access
from torpor.control import snapshots
from torpor.control.snapshots import Taken
from torpor.errors import HostFailed
from torpor.events import Event
from torpor.jobs import Scope
from torpor.remote.host import InProcess
from torpor.remote.lasting import LastingHost
from torpor.ssh.connect import shell
from torpor.testing.samples import noise

STATE = b".torpor/hosts/x"  # below the home of whoever logs in


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "machine") as found:
        for number in range(10):
            write(found.workspace / f"data-{number}", noise(1_100_000, number))
        yield found


@pytest.fixture
def lab(tmp_path: Path, door: Door, machine: Sshd) -> Iterator[Lab]:
    made = Lab(tmp_path / "lab", store=door.store())
    made.repository.store = door.store(few=2)
    through = shell(machine.target, tmp_path / "machines", Access())
    python = ("env", f"PYTHONPATH={os.pathsep.join([str(ROOT), *filter(None, sys.path)])}", *SMALL)
    made.host = LastingHost(through, python, STATE, "ssh:x", pause=lambda _: None)
    yield made
    through.close()


def take(lab: Lab, machine: Sshd, heard: list[Event]) -> Taken:
    scope = Scope(roots=[machine.root])
    return snapshots.take(lab.repository, lab.host, scope, STATE, snapshots.Options(), heard.append)


def exact(lab: Lab, machine: Sshd, out: Path) -> None:
    lab.host = InProcess()
    lab.restore(out)
    same(machine.workspace, out)


def test_three_drops_during_an_upload(lab: Lab, door: Door, machine: Sshd, tmp_path: Path) -> None:
    heard: list[Event] = []
    for number in (1, 3, 5):  # what was asked before a drop is asked again after it
        at_ask(lab, number, machine.drop)
    taken = take(lab, machine, heard)
    assert sum(size for _, size in door.puts) == taken.snapshot.manifest.new_bytes  # each byte once
    stages = [(event.stage, event.state) for event in heard if event.kind == "stage"]
    assert len(stages) == len(set(stages)) == 8
    assert len([event for event in heard if "trying again" in event.text]) >= 3
    assert machine.logins >= 4
    assert [*machine.home.glob(".torpor/hosts/x/jobs/*")] == []
    machine.wait_for(lambda: not machine.processes())
    exact(lab, machine, tmp_path / "out")


def test_a_machine_that_loses_its_power(lab: Lab, door: Door, machine: Sshd, tmp_path: Path) -> None:
    """The job is gone, which is told; the next run goes on with what was sent."""

    def cycle() -> None:
        door.wait_for_put()
        machine.power_off()
        machine.power_on()

    at_ask(lab, 1, cycle)
    with pytest.raises(HostFailed, match="The engine on the host is gone") as caught:
        take(lab, machine, [])
    assert caught.value.retryable
    before = sum(size for _, size in door.puts)
    taken = take(lab, machine, [])
    assert sum(size for _, size in door.puts) <= 1.02 * taken.snapshot.manifest.stored_bytes + before
    exact(lab, machine, tmp_path / "out")
