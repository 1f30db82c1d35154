"""A job's process on its host: stopped, killed, left alone, taken over; and what its journal holds."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import msgspec
import pytest

from tests.emulators.door import Door
from tests.engine.lab import Lab, same, write
from tests.remote.gear import CuttingShell, at_ask, lasting, shell
from torpor.control import catalogue
from torpor.errors import HostFailed, Interrupted, StorageUnavailable
from torpor.events import Event
from torpor.jobs import Ask
from torpor.remote import daemon
from torpor.remote.jobfolder import JobFolder
from torpor.remote.lasting import LastingHost
from torpor.remote.protocol import Line
from torpor.ssh.base import Dropped
from torpor.testing.samples import noise


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source")
    for number in range(12):
        write(root / f"data-{number}", noise(1_100_000, number))
    return root


def folders(lab: Lab) -> list[JobFolder]:
    return [JobFolder(os.fsencode(path)) for path in (lab.folder / "state").glob("*/jobs/*")]


def test_killed(lab: Lab, door: Door, source: Path, tmp_path: Path) -> None:
    """`kill -9` of the job's process, as for want of memory: told as such, and the next run goes on with what was sent."""

    def kill() -> None:
        door.wait_for_put()
        (folder,) = folders(lab)
        pid = folder.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    lab.host = lasting(lab)
    at_ask(lab, 1, kill)
    with pytest.raises(HostFailed, match="The engine on the host is gone") as caught:
        lab.take(source)
    assert caught.value.retryable
    assert folders(lab) == []
    before = sum(size for _, size in door.puts)
    assert before
    taken = lab.take(source)
    assert sum(size for _, size in door.puts) <= 1.02 * taken.snapshot.manifest.stored_bytes + before
    lab.restore(tmp_path / "out", machine="a")
    same(source, tmp_path / "out")


def test_stopped_by_who_listens(lab: Lab, source: Path) -> None:
    """Ctrl-C on the control side: the job ends, says what it kept, and is forgotten."""

    def stop(event: Event) -> None:
        if event.stage == "scan" and event.state == "ended":
            raise Interrupted("The command was stopped by SIGINT.")

    lab.host = lasting(lab)
    with pytest.raises(Interrupted, match="The snapshot was interrupted") as caught:
        lab.take(source, listen=stop)
    assert "packs are in the store" in caught.value.safe
    assert folders(lab) == []
    assert catalogue.ids(lab.repository) == []
    lab.take(source)


def test_stopped_from_another_thread(lab: Lab, source: Path) -> None:
    lab.host = host = lasting(lab)

    def stop() -> None:
        host.stop()
        for thread in threading.enumerate():
            if thread.name == "stop-job":
                thread.join(60)

    at_ask(lab, 1, stop)
    with pytest.raises(Interrupted):
        lab.take(source)
    assert folders(lab) == []


def test_a_listener_that_fails_stops_the_job(lab: Lab, source: Path) -> None:
    def fail(event: Event) -> None:
        if event.kind == "stage":
            raise ZeroDivisionError

    lab.host = lasting(lab)
    with pytest.raises(ZeroDivisionError):
        lab.take(source, listen=fail)
    assert folders(lab) == []


def test_left_alone(lab: Lab, door: Door, source: Path, tmp_path: Path) -> None:
    """Nobody comes to answer: after a while the job fails, and keeps what reached the store. It is done again then."""
    cutting = CuttingShell(shell(tmp_path / "login"), "rrrrr" + "E" * 100)
    lab.host = lasting(lab, through=cutting, wait=0.2, patience=0.0)
    with pytest.raises(Dropped):
        lab.take(source)
    (folder,) = folders(lab)
    _wait_for_the_end(folder)
    last = json.loads(folder.lines()[-1])
    assert last["failure"]["error"] == "StorageUnavailable"
    assert "Nobody answered" in last["failure"]["what"]
    lab.host = lasting(lab)
    notes: list[str] = []
    lab.take(source, listen=lambda event: notes.append(event.text))
    assert any("The job before this one had failed: Nobody answered" in text for text in notes)
    lab.restore(tmp_path / "out", machine="a")
    same(source, tmp_path / "out")


def _wait_for_the_end(folder: JobFolder) -> None:
    """Until the job's process has let go of its lock."""
    import fcntl

    with open(folder.file("lock"), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)


def test_taken_over(lab: Lab, source: Path, tmp_path: Path) -> None:
    """A second connection is served, and the first told so; it does not stop the job."""
    name: list[str] = []
    told: list[BaseException] = []
    results: list[object] = []

    class Noting(LastingHost):
        def run(self, job, listen, ask=None):  # type: ignore[no-untyped-def]
            from torpor.jobs import name_of

            name.append(name_of(job))
            return super().run(job, listen, ask)

    first, second = lasting(lab), lasting(lab)
    first.__class__ = Noting
    answering = threading.Event()

    def other() -> None:
        from torpor.control.granting import ForSnapshot

        snapshot, attempt = name[-1][:27], name[-1][28:]
        grants = ForSnapshot(lab.repository, snapshot, attempt)
        results.append(second.attach(name[-1], lambda event: answering.set(), grants.more))

    thread = threading.Thread(target=other)

    def meanwhile() -> None:
        thread.start()
        assert answering.wait(30)

    lab.host = first
    at_ask(lab, 1, meanwhile)
    with pytest.raises(HostFailed, match="Another connection follows this job now") as caught:
        lab.take(source)
    told.append(caught.value)
    thread.join(60)
    assert not thread.is_alive()
    assert type(results[0]).__name__ == "SnapshotResult"
    assert len(folders(lab)) == 1  # nobody has dealt with it yet
    second.forget(name[-1])
    assert folders(lab) == []


def test_forgotten_while_it_runs(lab: Lab, source: Path, tmp_path: Path) -> None:
    """Other options: the job that runs is of no use, so it is ended, and what it sent is used."""
    lab.host = lasting(lab, through=CuttingShell(shell(tmp_path / "login"), "rrrrrr" + "E" * 100), patience=0.0)
    with pytest.raises(Dropped):
        lab.take(source)
    (folder,) = folders(lab)
    assert folder.is_alive()
    lab.host = lasting(lab)
    taken = lab.take(source, level=3)
    assert not folder.is_alive()
    assert folders(lab) == []
    assert catalogue.ids(lab.repository) == [taken.snapshot.id]


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that complains for days fills no disk. Stages and the end are kept all the same."""
    monkeypatch.setattr(daemon, "KEPT", 2000)
    path = tmp_path / "lines"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ledger = daemon.Ledger(fd, 1.0)
    for number in range(1000):
        ledger.hear(Event(kind="note", at=0.0, text=f"note {number}"))
        ledger.hear(Event(kind="progress", at=0.0, stage="read", done=number))
    ledger.hear(Event(kind="stage", at=1.0, stage="read", state="ended"))
    ledger.end(Line(result=msgspec.Raw(b'{"done":1}')))
    os.close(fd)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert path.stat().st_size < 2400
    assert [line["number"] for line in lines] == list(range(1, len(lines) + 1))
    assert [line.get("event", {}).get("kind", "end") for line in lines[-3:]] == ["note", "stage", "end"]


def test_a_question_that_can_wait_is_not_waited_for_alone(tmp_path: Path) -> None:
    """The grant lasts yet, so the job goes on with it at once; one that it needs waits as long as it may."""
    fd = os.open(tmp_path / "lines", os.O_WRONLY | os.O_CREAT)
    ledger = daemon.Ledger(fd, 0.0)
    for needed in (False, True):
        with pytest.raises(StorageUnavailable, match="Nobody answered") as caught:
            ledger.ask(Ask(put=["x"], needed=needed))
        assert caught.value.retryable
    ledger._wait = 1e6
    with pytest.raises(StorageUnavailable):  # nobody came for that one: the next does not wait again
        ledger.ask(Ask(put=["x"], needed=True))
    assert ledger.asked == {}
    ledger.end(Line())
    os.close(fd)
