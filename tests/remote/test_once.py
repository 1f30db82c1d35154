"""A job that was begun is never begun a second time beside itself: not when it could not be stopped, not by another way in."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import pytest

from tests.emulators.door import Door
from tests.engine.lab import Lab, same, write
from tests.remote.gear import lasting, shell
from torpor.control import catalogue, snapshots
from torpor.errors import Interrupted, MachineError, SourceChanged
from torpor.events import Event, Listener
from torpor.format import names
from torpor.jobs import Granter, Job, Result, Scope, SnapshotJob
from torpor.remote import following
from torpor.remote.host import InProcess
from torpor.ssh.base import Channel, LoginRefused, Ran, Shell, Unreachable
from torpor.testing.samples import noise
from torpor.workspace.excludes import MARK


class Net:
    """The way to the host, which can go away."""

    def __init__(self, inner: Shell) -> None:
        self._inner = inner
        self.away: MachineError | None = None

    def run(self, command: str, stdin: bytes | IO[bytes] = b"", seconds: float = 60.0) -> Ran:
        self._look()
        return self._inner.run(command, stdin, seconds)

    def open(self, command: str) -> Channel:
        self._look()
        return self._inner.open(command)

    def close(self) -> None:
        self._inner.close()

    def _look(self) -> None:
        if self.away is not None:
            raise self.away


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(6):
        write(tmp_path / "source" / f"data-{number}", noise(1_100_000, number))
    return tmp_path / "source"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_FINISH", 0.3)


def notes(lab: Lab) -> list[str]:
    return [path.name.partition("-")[2] for path in (lab.folder / "home/jobs").glob("[!.]*")]


def attempts(door: Door) -> set[str]:
    return {names.writer_of(name.removeprefix("packs/")) for name, _ in door.puts}


def stop_out_of_reach(net: Net) -> Listener:
    """Ctrl-C at the upload, with the network gone."""

    def hear(event: Event) -> None:
        if event.stage == "upload" and event.kind == "stage":
            net.away = Unreachable("The network is gone.")
            raise Interrupted("Ctrl-C.")

    return hear


def test_one_that_could_not_be_stopped_is_followed(
    lab: Lab, door: Door, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a store that can't take back what it granted; else the job ends by that, and another is begun after it."""
    monkeypatch.setattr(lab.repository.store, "end_grant", lambda _: None)
    net = Net(shell(tmp_path / "login"))
    lab.host = lasting(lab, through=net)
    with pytest.raises(Interrupted):
        lab.take(source, listen=stop_out_of_reach(net))
    assert notes(lab) == ["snapshot.json"]
    net.away = None
    lab.host = lasting(lab, through=net)
    lab.take(source)
    assert len(attempts(door)) == 1
    assert notes(lab) == []


def test_another_does_not_begin_before_it_is_ended(lab: Lab, door: Door, source: Path, tmp_path: Path) -> None:
    net = Net(shell(tmp_path / "login"))
    lab.host = lasting(lab, through=net)
    with pytest.raises(Interrupted):
        lab.take(source, listen=stop_out_of_reach(net))
    with pytest.raises(Unreachable):  # asked for otherwise, the job that lives is of no use, and can't be ended now
        lab.take(source, name="other")
    assert notes(lab) == ["snapshot.json"]
    net.away = None
    lab.host = lasting(lab, through=net)
    taken = lab.take(source, name="other")
    assert catalogue.ids(lab.repository) == [taken.snapshot.id]
    assert notes(lab) == []
    assert [*(lab.folder / "state").glob("*/jobs/*")] == []


def test_a_login_that_is_refused_for_a_while(lab: Lab, door: Door, source: Path, tmp_path: Path) -> None:
    """An agent that is locked, say: the job is known to run, and goes on."""
    net = Net(shell(tmp_path / "login"))
    waits: list[float] = []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            net.away = None

    lab.host = lasting(lab, through=net, pause=pause)
    channels: list[Channel] = []
    opened = net.open

    def remember(command: str) -> Channel:
        channels.append(opened(command))
        return channels[-1]

    net.open = remember  # type: ignore[method-assign]

    def hear(event: Event) -> None:
        if event.stage == "upload" and event.kind == "stage" and not waits:
            net.away = LoginRefused("It refuses the key.")
            channels[-1].close()

    lab.take(source, listen=hear)
    assert len(waits) == 3
    assert len(attempts(door)) == 1


def test_a_restore_that_is_under_way_is_no_workspace(lab: Lab, source: Path, tmp_path: Path) -> None:
    """A snapshot of half of it would be the newest."""
    (source / MARK.decode()).write_text("{}")
    for host in (lasting(lab, through=shell(tmp_path / "login")), InProcess()):
        lab.host = host
        with pytest.raises(SourceChanged, match="is being restored"):
            lab.take(source)
    assert catalogue.ids(lab.repository) == []
    assert notes(lab) == []


class Pooled:
    """A way to the same machine whose jobs end with their connection."""

    address = "test:a"

    def __init__(self, over: Any) -> None:
        self._over = over

    def forget(self, name: str) -> None:
        self._over.forget(name)

    def run(self, job: Job, listen: Listener, ask: Granter | None = None) -> Result:
        return self._over.run(job, listen, ask) if not isinstance(job, SnapshotJob) else InProcess().run(job, listen, ask)


def test_by_another_way_the_first_is_ended_before(lab: Lab, door: Door, source: Path, tmp_path: Path) -> None:
    net = Net(shell(tmp_path / "login"))
    lab.host = lasting(lab, through=net)
    with pytest.raises(Interrupted):
        lab.take(source, listen=stop_out_of_reach(net))
    lab.host = Pooled(lasting(lab, through=net))
    with pytest.raises(Unreachable):
        lab.take(source)
    net.away = None
    lab.take(source)
    assert notes(lab) == []
    lab.host = InProcess()
    lab.restore(tmp_path / "out")
    same(source, tmp_path / "out")


def test_two_ways_at_once(lab: Lab, source: Path, tmp_path: Path) -> None:
    other = lab.open("home")
    told: list[MachineError] = []
    scope = Scope(roots=[str(source).encode()])

    def hear(event: Event) -> None:
        if not told and event.kind == "stage":
            with pytest.raises(MachineError, match="already") as caught:
                snapshots.take(other, lasting(lab), scope, b"/elsewhere", snapshots.Options(), lambda _: None)
            told.append(caught.value)

    lab.host = Pooled(lasting(lab))
    lab.take(source, listen=hear)
    assert told
