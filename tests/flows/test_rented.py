"""A rented machine goes to sleep and wakes as another one: flows, provider, SSH and engine together, over real sshd hosts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.hibernate import hibernate
from flows.wake import wake
from tests.emulators.vast.boxes import SshBox
from tests.emulators.vast.server import Vast
from tests.flows.field import Field, flow_run, newest
from torpor.control import places, snapshots
from torpor.control.leases import Book
from torpor.clock import SYSTEM
from torpor.events import ignore
from torpor.settings import load
from torpor.testing.compare import compare_trees

pytestmark = pytest.mark.usefixtures("api")


@pytest.fixture
def vast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vast]:
    with Vast(tmp_path / "vast", boot=0.5, ssh=True) as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


def box(vast: Vast, address: str) -> SshBox:
    found = vast.service.instances[int(address.partition(":")[2])].box
    assert isinstance(found, SshBox)
    return found


def saved(field: Field, original: Path) -> str:
    """A snapshot of a folder of this computer."""
    repository = field.repository()
    place = places.of_sources(load(), [str(original)])
    return snapshots.take(repository, place.host, place.scope(), place.state, snapshots.Options(), ignore).snapshot.id


def test_a_rented_machine_sleeps_and_wakes(field: Field, vast: Vast, original: Path) -> None:
    first = saved(field, original)
    woken = flow_run(wake(snapshot=first, gpu="rtx 4090", region="eu", max_price=0.5))
    host = box(vast, woken["machine"])
    assert compare_trees(original, host.host.workspace) == []
    assert woken["price"] <= 0.5
    (record,) = Book(field.repository().home, SYSTEM).all()
    assert (record.phase, record.address) == ("kept", woken["machine"])

    (host.host.workspace / "new.txt").write_text("made on the rented machine")
    slept = flow_run(hibernate(machine=woken["machine"]))
    assert slept["destroyed"] is True
    assert vast.service.billed() == []
    assert newest("hibernate").tasks["bootstrap"].state_name == "Completed"

    again = flow_run(wake(snapshot="latest", gpu="rtx 4090", region="eu", max_price=0.5))
    assert again["machine"] != woken["machine"]
    there = box(vast, again["machine"]).host.workspace
    assert (there / "new.txt").read_text() == "made on the rented machine"
    assert [line for line in compare_trees(original, there) if "new.txt" not in line and not line.startswith(".: mtime")] == []
