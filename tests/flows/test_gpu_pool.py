"""A machine as a worker of the pool gpu: a real server with a password, a real sshd, a real worker behind the tunnel and the proxy."""

from __future__ import annotations

import contextvars
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from flows.hibernate import hibernate
from flows.pool import queue_of
from flows.wake import wake
from tests.emulators.sshd import Sshd
from tests.flows.field import Field, fill, flow_run, saved, until
from tests.flows.pooled import Heard, made_pool, read, runs_in, states, tasks_of
from tests.flows.prefect_server import PASSWORD
from tests.flows.test_secrets import forms, keys
from torpor.control import restores, snapshots
from torpor.control.repository import Repository
from torpor.control.snapshots import Taken
from torpor.errors import HostFailed, Interrupted, UsageError
from torpor.events import Event, Listener, ignore
from torpor.jobs import Scope
from torpor.remote.gateway_store import served
from torpor.remote.host import Host, Subprocess
from torpor.ssh import trust
from torpor.ssh.tunnel import Tunnel
from torpor.testing.compare import compare_trees

pytestmark = pytest.mark.usefixtures("guarded")


def take(field: Field, host: Host, original: Path, state: Path, heard: Listener = ignore) -> Taken:
    scope = Scope(roots=[os.fsencode(original)])
    return snapshots.take(field.repository(), host, scope, os.fsencode(state), snapshots.Options(), heard)


def secrets_on(machine: Sshd) -> dict[str, bytes]:
    """All that a thief of the machine's disk, and of its processes' environments and command lines, would have."""
    found = {}
    for process in machine.processes():
        found[f"process {process.pid}"] = repr((process.cmdline(), process.environ())).encode()
    folders = [machine.home, *Path("/tmp").glob("torpor-worker-*"), *Path("/tmp").glob("*prefect")]
    for folder in folders:
        found |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return found


def test_it_is_the_job_over_ssh(machine: Sshd, field: Field, original: Path, tmp_path: Path) -> None:
    """Saved by the pool and by a plain engine; brought back by the pool, whose first attempt fails: always the same files."""
    thief: dict[str, bytes] = {}

    def steal(event: Event) -> None:
        if event.stage == "compress" and event.state == "started":
            thief.update(secrets_on(machine))

    with made_pool(machine) as pool:
        heard = Heard(steal)
        by_pool = take(field, pool, original, tmp_path / "state", heard)
        saved = read(heard.run)
        assert (saved.state_name, saved.parameters) == ("Completed", {"job": saved.name})
        assert saved.name.startswith(by_pool.snapshot.id)
        assert states(heard.run) == dict.fromkeys(["snapshot", "scan", "compress", "upload"], "Completed")

        plain = take(field, Subprocess(), original, tmp_path / "other state")
        for one in ("files", "directories", "links", "raw_bytes", "entries", "codecs"):
            assert getattr(by_pool.snapshot.manifest, one) == getattr(plain.snapshot.manifest, one), one

        again = Heard()
        with away(machine, field, again) as repository:
            options = restores.Options(patience=1.0)
            target, state = os.fsencode(tmp_path / "back"), os.fsencode(tmp_path / "state")
            restores.restore(repository, pool, by_pool.snapshot.id, target, state, options, again)
    assert compare_trees(original, tmp_path / "back") == []
    assert read(again.run).state_name == "Completed"
    assert states(again.run) == dict.fromkeys(["restore", "download", "decompress", "extract"], "Completed")
    assert {task.name: task.run_count for task in tasks_of(again.run)}["restore"] > 1

    assert any("flows.run_once" in text.decode() for text in thief.values())  # it was looked for where it could be
    secrets = {name: forms(key) for name, key in keys(field, by_pool.snapshot.id).items()} | {"password": [PASSWORD.encode()]}
    assert [
        f"{name} in {where}" for name, all_forms in secrets.items() for where, data in thief.items() if any(f in data for f in all_forms)
    ] == []


def failed(run: UUID) -> bool:
    """Whether a task of the run had an attempt that failed."""
    return bool({"AwaitingRetry", "Retrying"} & {one.state_name for one in tasks_of(run)})


@contextmanager
def away(machine: Sshd, field: Field, heard: Heard) -> Iterator[Repository]:
    """A repository whose store the machine reaches by a tunnel that stands once the first attempt has failed."""
    made: list[Tunnel] = []

    @contextmanager
    def tunnel(here: int) -> Iterator[Callable[[], int]]:
        made.append(Tunnel(machine.target, here))
        port = made[0].open()
        made[0].close()
        yield lambda: port
        made[0].close()

    def repair() -> None:
        until(lambda: heard.begun and failed(heard.run), "a failure", 240)
        made[0].open()

    repository = field.repository()
    thread = threading.Thread(target=contextvars.copy_context().run, args=(repair,))
    with served(repository.store, tunnel) as store:
        thread.start()
        yield msgspec.structs.replace(repository, store=store)
        thread.join()


def test_a_stopped_job_ends_its_run(machine: Sshd, field: Field, tmp_path: Path) -> None:
    """Nothing is left running, on the host or in Prefect."""
    original = fill(tmp_path / "large", 32 << 20)
    with made_pool(machine) as pool:

        def stop(event: Event) -> None:
            if event.stage == "compress" and event.state == "started":
                pool.stop()

        heard = Heard(stop)
        with pytest.raises(Interrupted):
            take(field, pool, original, tmp_path / "state", heard)
        assert read(heard.run).state_name in ("Failed", "Crashed")
    until(lambda: not machine.processes(), "the end of all processes")
    shutil.rmtree(original)


def test_a_host_without_torpor_is_told(machine: Sshd, field: Field, original: Path, tmp_path: Path) -> None:
    with made_pool(machine, ["false"]) as pool, pytest.raises(HostFailed, match="did not begin"):
        take(field, pool, original, tmp_path / "state")
    assert {run.state_name for run in runs_in("box-1")} <= {"Completed", "Crashed", "Failed"}


@pytest.mark.slow
def test_a_bare_host_gets_prefect_and_wakes(
    machine: Sshd, field: Field, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From nothing: the engine and Prefect are brought, the store is a folder of the control side, and a flow chooses the runner."""
    trust.pin(tmp_path, "127.0.0.1", machine.port, machine.host_key)
    monkeypatch.setenv("TORPOR_SSH_KEY", machine.target.identity)
    monkeypatch.setenv("TORPOR_KNOWN_HOSTS", str(tmp_path / trust.FILE))
    address = f"ssh://{machine.user}@127.0.0.1:{machine.port}{os.fsdecode(machine.root)}/woken"
    snapshot = saved(field, original)
    flow_run(wake(snapshot=snapshot, on=address, runner="gpu-pool"))
    assert compare_trees(original, machine.workspace / "woken") == []
    (run,) = runs_in(queue_of(address))
    assert run.state_name == "Completed"
    assert states(run.id) == dict.fromkeys(["restore", "download", "decompress", "extract"], "Completed")


def test_this_computer_is_no_worker(field: Field, original: Path) -> None:
    field.machine("here", original)
    with pytest.raises(UsageError, match="on this computer"):
        flow_run(hibernate(machine="local:here", runner="gpu-pool", destroy_after=False))
