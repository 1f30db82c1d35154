"""The connection breaks while a job runs: the job goes on, and so does who follows it. Nothing is done twice."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import pytest

from tests.emulators.door import Door
from tests.engine.lab import Lab, same, write
from tests.remote.gear import CuttingShell, files_below, lasting, shell
from torpor.control.granting import ForSnapshot
from torpor.errors import HostFailed
from torpor.events import Event
from torpor.format import names
from torpor.jobs import RestoreJob, SnapshotJob
from torpor.remote.lasting import LocalLasting
from torpor.ssh.base import Dropped
from torpor.testing.samples import noise


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source")
    for number in range(6):
        write(root / f"data-{number}", noise(1_100_000, number))
    write(root / "code/x.py", "pass\n" * 100)
    return root


SCRIPTS = {
    "no break": ("", ""),
    "before the job is sent": ("rrE", ""),
    "when the job was sent": ("rrA", ""),
    "at the greeting": ("rAEErP", ""),
    "three times": ("rrrrrrErrrrrrErrrrE", ""),
    "after every seventh operation": ("", "rrrrrrrE"),
    "where it is not known what arrived": ("", "rrrrrrrA"),
    "amid every ninth operation": ("", "rrrrrrrrP"),
    "and the host does not notice": ("rrrrrrH", "rrrrrrrrH"),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_job_goes_on(lab: Lab, door: Door, source: Path, tmp_path: Path, script: str) -> None:
    cutting = CuttingShell(shell(tmp_path / "login"), *SCRIPTS[script])
    lab.host = lasting(lab, through=cutting)
    heard: list[Event] = []
    taken = lab.take(source, listen=heard.append)
    assert (cutting.breaks > 0) is (script != "no break")
    assert {name.rpartition("/")[2].split("-")[0] for name, _ in door.puts} >= {"index"}
    assert len({names.writer_of(name.removeprefix("packs/")) for name, _ in door.puts}) == 1  # one engine, one attempt
    assert sum(size for _, size in door.puts) == taken.snapshot.manifest.new_bytes  # each byte once
    stages = [(event.stage, event.state) for event in heard if event.kind == "stage"]
    assert len(stages) == len(set(stages)) == 8  # each line once
    again = CuttingShell(shell(tmp_path / "login"), *SCRIPTS[script])
    lab.host = lasting(lab, "b", again)
    lab.restore(tmp_path / "out")
    same(source, tmp_path / "out")
    assert sum(size for _, size in door.gets) < 1.02 * taken.snapshot.manifest.stored_bytes
    cutting.close()
    again.close()
    assert [*(lab.folder / "state").glob("*/jobs/*")] == []
    assert [*(lab.folder / "home/jobs").iterdir()] == []


def test_nothing_secret_is_on_the_hosts_disk(lab: Lab, door: Door, source: Path, tmp_path: Path) -> None:
    """Neither a key nor a request; not while the job runs, and not when it has ended."""
    seen: list[SnapshotJob | RestoreJob] = []
    looked: list[int] = []

    class Looking(type(lasting(lab))):  # type: ignore[misc]
        def run(self, job, listen, ask=None):  # type: ignore[no-untyped-def]
            if isinstance(job, SnapshotJob | RestoreJob):
                seen.append(job)
            return super().run(job, listen, ask)

        def forget(self, name: str) -> None:
            look(Event(kind="note", at=0.0))
            super().forget(name)

    def look(_: Event) -> None:
        found = files_below(lab.folder / "state")
        looked.append(len([path for path in found if path.name == "lines"]))
        secrets = [door.url.encode()]
        for job in seen:
            keys = [job.keys.id_key, *([job.keys.index_key, *job.keys.packs.values()] if isinstance(job, RestoreJob) else [])]
            secrets += [form for key in keys for form in (key, base64.b64encode(key), key.hex().encode())]
        assert [path for path, data in found.items() if any(secret in data for secret in secrets)] == []

    lab.host = lasting(lab)
    lab.host.__class__ = Looking
    lab.take(source, listen=look)
    lab.restore(tmp_path / "out", listen=look, machine="a")
    assert [type(job) for job in seen] == [SnapshotJob, RestoreJob]
    assert max(looked) == 1
    assert len(looked) > 6


def test_a_host_that_stays_away(lab: Lab, door: Door, source: Path, tmp_path: Path) -> None:
    """After a while the control side gives up. The job does not: the same command follows it."""
    waits: list[float] = []

    class Clock:
        at = 1_900_000_000.0

        def now(self) -> float:
            return self.at

    clock = Clock()

    def pause(seconds: float) -> None:
        waits.append(seconds)
        clock.at += seconds

    cutting = CuttingShell(shell(tmp_path / "login"), "rrrrrr" + "E" * 1000)
    lab.host = lasting(lab, through=cutting, clock=clock, pause=pause, patience=600.0)
    with pytest.raises(Dropped, match="test cut") as caught:
        lab.take(source)
    assert caught.value.retryable
    assert "goes on" in caught.value.safe
    assert 600 < sum(waits) < 680
    assert max(waits) <= 45
    assert waits[0] < 1
    lab.host = lasting(lab)
    notes: list[str] = []
    taken = lab.take(source, listen=lambda event: notes.append(event.text) if event.kind == "note" else None)
    assert any("Following the job" in text for text in notes)
    assert sum(size for _, size in door.puts) == taken.snapshot.manifest.new_bytes


def test_a_host_that_was_never_there_is_not_waited_for(lab: Lab, source: Path, tmp_path: Path) -> None:
    class Nowhere(CuttingShell):
        def open(self, command: str):  # type: ignore[no-untyped-def]
            raise Dropped("Nobody answers.")

    waits: list[float] = []
    lab.host = lasting(lab, through=Nowhere(shell(tmp_path / "login")), pause=waits.append)
    with pytest.raises(Dropped, match="Nobody answers"):
        lab.take(source)
    assert waits == []


def test_a_host_without_torpor(lab: Lab, source: Path) -> None:
    lab.host = host = lasting(lab)
    host._python = ("sh", "-c", "echo welcome to this machine; exit 127", "x")
    with pytest.raises(HostFailed, match=r"did not begin \(exit code 127\)"):
        lab.take(source)


def test_a_login_that_talks(lab: Lab, source: Path, tmp_path: Path) -> None:
    """Some machines greet whoever logs in on standard output."""

    class Talking(CuttingShell):
        def open(self, command: str):  # type: ignore[no-untyped-def]
            return super().open(f"echo 'Welcome! Have fun.'; {command}")

    lab.host = lasting(lab, through=Talking(shell(tmp_path / "login")))
    lab.take(source)


def test_on_this_computer(lab: Lab, source: Path, tmp_path: Path) -> None:
    lab.host = LocalLasting(lab.state("a"))
    lab.take(source)
    lab.restore(tmp_path / "out", machine="a")
    same(source, tmp_path / "out")
    assert [*(lab.folder / "state").glob("*/jobs/*")] == []


def test_two_drive_one_workspace(lab: Lab, source: Path, tmp_path: Path) -> None:
    """The second is told at once."""
    from torpor.control import snapshots
    from torpor.errors import MachineError
    from torpor.jobs import Scope

    other = lab.open("home")
    told: list[str] = []

    def meanwhile(event: Event) -> None:
        if not told and event.kind == "stage":
            with pytest.raises(MachineError, match=r"Process \d+ of this computer works on this workspace of test:a already") as caught:
                snapshots.take(
                    other, lasting(lab), Scope(roots=[str(source).encode()]), lab.state("a"), snapshots.Options(), lambda _: None
                )
            told.append(str(caught.value))

    lab.host = lasting(lab)
    lab.take(source, listen=meanwhile)
    assert told
    shutil.rmtree(tmp_path / "login", ignore_errors=True)


def test_grants_of_an_earlier_process_are_taken_back(lab: Lab) -> None:
    revoked: list[str] = []
    lab.repository.store.revoke = revoked.append  # type: ignore[assignment, method-assign]
    ForSnapshot(lab.repository, "20260801T120000000-0a1b2c3d", "89abcdef", before=["one", "two"]).end()
    assert revoked == ["one", "two"]
