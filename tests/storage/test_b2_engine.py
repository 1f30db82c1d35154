"""A whole life in Backblaze B2, with the host's engine in a process of its own: it has no b2sdk, and only what it was granted."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.emulators.b2 import B2
from tests.emulators.b2_service import Refusal
from tests.engine.lab import Lab, same, write
from torpor.control import catalogue
from torpor.control.repository import Repository
from torpor.errors import NoSpace
from torpor.remote.host import Host, Subprocess
from torpor.settings import Secret
from torpor.storage.b2 import B2Store

MIB = 1 << 20


@dataclass
class B2Lab(Lab):
    environment: dict[str, str] = field(default_factory=dict)
    host: Host = field(default_factory=Subprocess)

    def open(self, home: str, *, create: bool = False, **environment: str) -> Repository:
        return super().open(home, create=create, **self.environment, **environment)


@pytest.fixture
def lab(b2: B2, tmp_path: Path) -> B2Lab:
    store = B2Store(b2.bucket, "team/", b2.key_id, Secret(b2.key), b2.realm)
    return B2Lab(tmp_path / "lab", store=store, environment={"B2_KEY_ID": b2.key_id, "B2_APPLICATION_KEY": b2.key})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(3):
        write(tmp_path / "source" / f"weights-{number}", os.urandom(16 * MIB))
    write(tmp_path / "source" / "code.py", "print()\n")
    return tmp_path / "source"


def test_hibernate_wake_and_prune(b2: B2, lab: B2Lab, source: Path, tmp_path: Path) -> None:
    first = lab.take(source).snapshot.id
    made = [seen for seen in b2.requests if seen.endpoint == "b2_create_key"]
    assert made
    assert list(b2.service.keys) == [b2.key_id]  # the host's keys ended with its jobs
    write(source / "code.py", "print('more')\n")
    second = lab.take(source).snapshot.id
    assert lab.check_all() == [first, second]
    lab.restore(tmp_path / "copy")
    same(source, tmp_path / "copy")
    lab.remove(first)
    lab.remove(second)
    lab.prune(grace=0)
    lab.prune(grace=0)
    assert not [name for name in b2.the_bucket.files if "/packs/" in name]
    assert all(name.startswith("team/") for name in b2.the_bucket.files)


def test_no_secret_of_the_account_is_stored_or_reaches_the_host(b2: B2, lab: B2Lab, source: Path) -> None:
    lab.take(source)
    for versions in b2.the_bucket.files.values():
        assert b2.key.encode() not in b"".join(version.data for version in versions)
    for folder in (lab.folder / "state", lab.folder / "home"):
        for path in folder.rglob("*"):
            assert not path.is_file() or b2.key.encode() not in path.read_bytes()


def test_a_full_account_ends_the_job_its_key_and_no_snapshot(b2: B2, lab: B2Lab, source: Path, tmp_path: Path) -> None:
    lab.take(source)
    write(source / "weights-3", os.urandom(16 * MIB))
    b2.full = Refusal(403, "storage_cap_exceeded")
    with pytest.raises(NoSpace, match="storage_cap_exceeded"):
        lab.take(source)
    b2.full = None
    assert list(b2.service.keys) == [b2.key_id]
    assert len(catalogue.ids(lab.repository)) == 1
    lab.take(source)
    lab.restore(tmp_path / "copy")
    same(source, tmp_path / "copy")
