"""A host that sees nothing of the store but a port of its loopback: a snapshot there and a restore, by an engine in its own process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.engine.lab import Lab, same, write
from torpor.clock import SYSTEM
from torpor.control import granting
from torpor.jobs import Grant
from torpor.remote.gateway_store import served
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
def test_a_workspace_goes_through_a_gateway_and_comes_back(
    tmp_path: Path, workspace: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grants that end soon, so that more is asked for on the way."""
    monkeypatch.setattr(granting, "LIFETIME", 3.0)
    store: Any = {"store": LocalStore(str(tmp_path / "disk"))} if kind == "folder" else {}
    lab = Lab(tmp_path / "lab", host=Subprocess(), **store)
    inner = lab.repository.store
    with served(inner, straight) as lab.repository.store:
        taken = lab.take(workspace, rate=20 << 20)
        assert taken.result.traffic.sent == sum(size for name, size in lab.objects("packs/").items())
        write(workspace / "code/file7.py", "changed")
        lab.take(workspace)
        back = lab.restore(tmp_path / "back")
        assert back.traffic.received >= back.fetched_bytes > 0
    lab.repository.store = inner
    same(workspace, tmp_path / "back")
    assert lab.check_all()


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
