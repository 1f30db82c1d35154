"""One's own disk as the store of a machine: through a real tunnel, which breaks, and which another process opens again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from blake3 import blake3

from tests.emulators.sshd import Sshd
from tests.engine.lab import Lab, same, write
from torpor.access import Access
from torpor.events import Event
from torpor.jobs import Ask, Grant
from torpor.remote.gateway_store import served
from torpor.remote.host import Subprocess
from torpor.ssh.tunnel import reverse
from torpor.storage.grants import join
from torpor.storage.local import LocalStore
from torpor.storage.transfer import Transfer
from torpor.testing.samples import noise

SNAPSHOT = "20260801T120000000-0a1b2c3d"
PREFIX = f"packs/{SNAPSHOT}/"


@pytest.fixture
def disk(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "disk"))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for number in range(12):
        write(tmp_path / "workspace" / f"noise{number}.bin", noise(8 << 20, seed=number))
    return tmp_path / "workspace"


def test_a_snapshot_and_a_restore_over_a_tunnel_that_breaks(host: Sshd, tmp_path: Path, disk: LocalStore, workspace: Path) -> None:
    """The machine shares our loopback, so its engine may as well be a process of ours: what it has of the store is a port."""
    lab = Lab(tmp_path / "lab", store=disk, host=Subprocess())
    broken: list[str] = []

    def hear(event: Event) -> None:
        """Once in the middle of each way."""
        if event.kind == "progress" and event.stage in ("upload", "download") and event.done > 20 << 20 and event.stage not in broken:
            broken.append(event.stage)
            host.drop()

    with served(disk, reverse(host.target, tmp_path, Access())) as lab.repository.store:
        taken = lab.take(workspace, listen=hear, rate=60 << 20)
        back = lab.restore(tmp_path / "back", listen=hear, rate=60 << 20)
    assert broken == ["upload", "download"]
    assert taken.result.traffic.retries + back.traffic.retries > 0
    lab.repository.store = disk
    same(workspace, tmp_path / "back")


def test_another_process_takes_up_where_one_ended(host: Sshd, tmp_path: Path, disk: LocalStore) -> None:
    """The job has requests to a port and of a secret that are gone. It finds the port again, and is told to ask."""
    names = [f"{SNAPSHOT}/89abcdef-{number}" for number in range(2)]
    whole = os.urandom(3 << 20)
    port = 20_000 + os.getpid() % 10_000
    with served(disk, reverse(host.target, tmp_path, Access(), port)) as store:
        grant = store.grant_put(PREFIX, 0, [f"packs/{name}" for name in names])
        assert f"http://127.0.0.1:{port}/" in grant.put[names[0]].url
        first = Transfer(grant)
        first.put(names[0], [whole], blake3(whole).digest())
    with served(disk, reverse(host.target, tmp_path, Access(), port)) as store:

        def more(ask: Ask) -> Grant:
            return store.grant_put(PREFIX, 0, [f"packs/{name}" for name in ask.put])

        with first, Transfer(grant, more) as transfer:
            transfer.put(names[1], [whole], blake3(whole).digest())
        with served(disk, reverse(host.target, tmp_path, Access(), port)) as beside:  # the port is taken: another does as well
            wanted = beside.grant_get([f"packs/{name}" for name in names], 0)
            assert f":{port}/" not in wanted.get[names[0]].url
            with Transfer(join(wanted)) as transfer:
                assert [transfer.get(name) for name in names] == [whole, whole]
