"""A host that sees nothing of the store but a port of its loopback: a snapshot there and a restore, by an engine in its own process."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.engine.lab import Lab, same, write
from torpor.clock import SYSTEM
from torpor.events import Listener
from torpor.jobs import Grant, Granter, Job, RestoreJob, Result
from torpor.remote.gateway_store import served, serving
from torpor.remote.host import Subprocess
from torpor.storage.local import LocalStore
from torpor.testing.samples import noise, weights
from torpor.testing.tunnels import straight


@pytest.fixture
def workspace(root: Path) -> Path:
    write(root / "weights.bin", weights("bf16", 20 << 20))
    write(root / "noise.bin", noise(9 << 20))
    for number in range(200):
        write(root / f"code/file{number}.py", f"{number}\n" * number)
    os.symlink("code", root / "link")
    return root


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_a_workspace_goes_through_a_gateway_and_comes_back(tmp_path: Path, workspace: Path, kind: str) -> None:
    store: Any = {"store": LocalStore(str(tmp_path / "disk"))} if kind == "folder" else {}
    lab = Lab(tmp_path / "lab", host=Subprocess(), **store)
    inner = lab.repository.store
    with served(inner, straight) as lab.repository.store:
        taken = lab.take(workspace)
        assert taken.result.traffic.sent >= sum(lab.objects("packs/").values())
        write(workspace / "code/file7.py", "changed")
        lab.take(workspace)
        back = lab.restore(tmp_path / "back")
        assert back.traffic.received >= back.fetched_bytes > 0
    lab.repository.store = inner
    same(workspace, tmp_path / "back")
    assert lab.check_all()


def test_copies_in_folders_are_reached_too(tmp_path: Path, workspace: Path) -> None:
    """What the repository lost comes from a copy on this computer's disk; the host has no path of either."""
    lab = Lab(tmp_path / "lab", store=LocalStore(str(tmp_path / "disk")), host=Subprocess())
    lab.take(workspace)
    shutil.copytree(tmp_path / "disk", tmp_path / "copy")
    lab.repository.settings = msgspec.structs.replace(lab.repository.settings, copies=(f"{tmp_path}/copy",))
    lost = [name for name in lab.objects("packs/") if "index" not in name]
    lab.store.delete(lost)
    seen = Noting()
    lab.host = seen
    inner = lab.repository.store
    with serving(straight) as lab.repository.reach:
        lab.repository.store = lab.repository.reach(inner)
        back = lab.restore(tmp_path / "back")
    (job,) = seen.jobs
    assert isinstance(job, RestoreJob)
    assert job.grant.fallback is not None
    requests = [*job.grant.get.values(), *job.grant.fallback.get.values()]
    assert {request.url[:17] for request in requests} == {"http://127.0.0.1:"}
    assert any("copy" in note for note in back.notes)
    same(workspace, tmp_path / "back")


class Noting(Subprocess):
    """Keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Job] = []

    def run(self, job: Job, listen: Listener, ask: Granter | None = None) -> Result:
        self.jobs.append(job)
        return super().run(job, listen, ask)


def test_what_a_job_was_granted_ends_with_it(tmp_path: Path, workspace: Path) -> None:
    seen: list[Grant] = []
    lab = Lab(tmp_path / "lab", store=LocalStore(str(tmp_path / "disk")), host=Subprocess())
    with served(lab.repository.store, straight) as store:
        lab.repository.store = store
        put = store.grant_put

        def noting(*arguments: Any) -> Grant:
            seen.append(put(*arguments))
            return seen[-1]

        store.grant_put = noting  # type: ignore[method-assign, assignment]
        lab.take(workspace)
        assert seen
        for grant in seen:
            assert grant.expires > SYSTEM.now()
            for request in list(grant.put.values())[-1:]:
                assert _status(request.url) == 403


def _status(url: str) -> int:
    from http.client import HTTPConnection

    _, _, place, target = url.split("/", 3)
    connection = HTTPConnection(place, timeout=30)
    connection.request("PUT", f"/{target}", body=b"late")
    with connection.getresponse() as answer:
        connection.close()
        return answer.status
