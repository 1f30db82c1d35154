"""Rented machines go to sleep and wake as others: flows, providers, SSH and engine together, over real sshd hosts."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from flows.hibernate import hibernate
from flows.wake import wake
from tests.emulators.gce.hosts import Machines
from tests.emulators.gce.server import Gce
from tests.emulators.vast.boxes import SshBox
from tests.emulators.vast.server import Vast
from tests.flows.field import Field, flow_run, newest, saved
from torpor.clock import SYSTEM, FakeClock
from torpor.control.leases import Book
from torpor.errors import Damaged, HookFailed
from torpor.testing.compare import compare_trees

pytestmark = pytest.mark.usefixtures("api")


class World(NamedTuple):
    """A provider. `wish`: what a wake asks for; `folder`: of a machine's workspace; `billed`: what costs; `secret`: the account's key."""

    wish: dict[str, Any]
    folder: Callable[[str], Path]
    billed: Callable[[], list[str]]
    secret: str


@pytest.fixture
def vast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vast]:
    with Vast(tmp_path / "vast", boot=0.5, ssh=True) as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


def vast_world(vast: Vast) -> World:
    def folder(address: str) -> Path:
        box = vast.service.instances[int(address.partition(":")[2])].box
        assert isinstance(box, SshBox)
        return box.host.workspace

    return World({"gpu": "rtx 4090", "region": "eu", "max_price": 0.5}, folder, vast.service.billed, vast.service.key)


@pytest.fixture(params=["vast", "gce"])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    if request.param == "vast":
        yield vast_world(request.getfixturevalue("vast"))
        return
    with socket.create_server(("127.0.0.1", 0)) as server:
        hosts = Machines(tmp_path / "hosts", server.getsockname()[1])
    with Gce(FakeClock(), hosts) as gce:
        for name, value in gce.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("GCE_SSH_PORT", str(hosts.port))
        monkeypatch.setenv("GCE_SSH_USER", getpass.getuser())

        def folder(address: str) -> Path:
            _, zone, name = address.partition(":")[2].split("/")
            return hosts.running[gce.service.instances[zone, name]["id"]].workspace

        wish: dict[str, Any] = {"gpus": 0, "region": "us", "provider": "gce", "interruptible": True}
        yield World(wish, folder, lambda: [*(name for _, name in gce.service.instances), *gce.service.disks], "")


def test_it_sleeps_and_wakes(field: Field, world: World, original: Path) -> None:
    first = saved(field, original)
    woken = flow_run(wake(snapshot=first, after="pwd >after", **world.wish))
    folder = world.folder(woken["machine"])
    assert (folder / "after").read_text() == "/workspace\n"
    (folder / "after").unlink()
    os.utime(folder, ns=(0, original.stat().st_mtime_ns))
    assert compare_trees(original, folder) == []
    (record,) = Book(field.repository().home, SYSTEM).all()
    assert (record.phase, record.address) == ("kept", woken["machine"])

    (folder / "new.txt").write_text("made on the rented machine")
    slept = flow_run(hibernate(machine=woken["machine"], before="echo flushed >flushed"))
    assert slept["destroyed"] is True
    assert world.billed() == []
    seen = newest("hibernate")
    assert {"bootstrap", "before", "scan", "compress", "upload", "verify", "destroy"} <= set(seen.tasks)
    assert world.secret == "" or world.secret not in "".join(seen.logs)

    again = flow_run(wake(snapshot="latest", **world.wish))
    assert again["machine"] != woken["machine"]
    there = world.folder(again["machine"])
    assert (there / "new.txt").read_text() == "made on the rented machine"
    assert (there / "flushed").read_text() == "flushed\n"
    found = [line for line in compare_trees(original, there) if "new.txt" not in line and "flushed" not in line]
    assert [line for line in found if not line.startswith(".: mtime")] == []


def test_what_fails_on_the_way_costs_nothing_afterwards(field: Field, vast: Vast, original: Path) -> None:
    """The hook of the user's fails: the machine, which nobody has worked on, is destroyed again."""
    world, first = vast_world(vast), saved(field, original)
    with pytest.raises(HookFailed, match="exit status 7") as caught:
        flow_run(wake(snapshot=first, after="exit 7", **world.wish))
    assert "was destroyed again" in caught.value.safe
    assert "on a machine that stays" in caught.value.remedy
    assert world.billed() == []
    (record,) = Book(field.repository().home, SYSTEM).all()
    assert record.phase == "ended"


def test_the_next_offer_is_taken(field: Field, vast: Vast, original: Path) -> None:
    world, first = vast_world(vast), saved(field, original)
    vast.service.next_trouble = "oci"
    woken = flow_run(wake(snapshot=first, **world.wish))
    assert len(woken["tried"]) == 1
    assert len(world.billed()) == 1
    assert [record.phase for record in Book(field.repository().home, SYSTEM).all()] == ["ended", "kept"]


def test_a_snapshot_that_is_damaged_keeps_no_machine(field: Field, vast: Vast, original: Path) -> None:
    world, first = vast_world(vast), saved(field, original)
    for pack in field.objects("packs"):
        size = (field.store / pack).stat().st_size
        (field.store / pack).write_bytes(b"x" * size)
    with pytest.raises(Damaged):
        flow_run(wake(snapshot=first, **world.wish))
    assert world.billed() == []
