"""Copies between a bucket and a folder, either way, and restores by the one where the other fails: hosts with signed requests alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.s3 import S3Emulator, Seen
from tests.emulators.s3_faults import Fault
from tests.engine.lab import same, write
from torpor.access import Access
from torpor.control import catalogue, copies, receipts, restores, snapshots
from torpor.control.repository import Repository, open_repository
from torpor.events import ignore
from torpor.jobs import RestoreResult, Scope
from torpor.remote.host import InProcess
from torpor.settings import Settings, load
from torpor.storage.table import open_store
from torpor.testing.samples import noise, text

MIB = 1 << 20


class Both:
    """A snapshot in a bucket or a folder, and its copy in the other."""

    def __init__(self, folder: Path, s3: S3Emulator, *, bucket_first: bool) -> None:
        self.folder, self.s3 = folder, s3
        self.root = folder / "workspace"
        for number in range(4):
            write(self.root / f"code/{number}.py", text(3000, number))
            write(self.root / f"random-{number}", noise(MIB + 77, number))
        places = [f"s3://{s3.bucket}/a/prefix?endpoint={s3.url}&provider=aws", (folder / "store").as_uri()]
        self.first, self.other = places if bucket_first else places[::-1]
        self.repository = self.open(self.first, create=True)
        scope = Scope(roots=[os.fsencode(self.root)])
        taken = snapshots.take(self.repository, InProcess(), scope, os.fsencode(folder / "state"), snapshots.Options(), ignore)
        self.snapshot = taken.snapshot.id
        self.copied = copies.copy(self.repository, self.snapshot, self.other, copies.Options(), ignore)

    def settings(self, url: str) -> Settings:
        keys = {"AWS_ACCESS_KEY_ID": self.s3.key, "AWS_SECRET_ACCESS_KEY": self.s3.secret}
        return load({"TORPOR_HOME": str(self.folder / "home"), **keys}, url)

    def open(self, url: str, *, create: bool = False) -> Repository:
        return open_repository(self.settings(url), create=create)

    def restore(self) -> RestoreResult:
        out, state = self.folder / "out", os.fsencode(self.folder / "other-state")
        found = restores.restore(self.repository, InProcess(), self.snapshot, os.fsencode(out), state, restores.Options(), ignore)
        same(self.root, out)
        return found


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Emulator]:
    monkeypatch.setattr("torpor.hibernate.packer.PACK_TARGET", MIB)
    monkeypatch.setattr("torpor.control.granting.PACKS_ASKED", 2)
    monkeypatch.setattr("torpor.wake.run.PACKS_ASKED", 2)
    with S3Emulator("aws") as emulator:
        yield emulator


@pytest.mark.parametrize("bucket_first", [True, False])
def test_a_copy_in_another_kind_of_store(tmp_path: Path, s3: S3Emulator, bucket_first: bool) -> None:
    both = Both(tmp_path, s3, bucket_first=bucket_first)
    names = {info.name: info.size for info in both.repository.store.list() if not info.name.startswith("copies/")}
    access = Access({"AWS_ACCESS_KEY_ID": s3.key, "AWS_SECRET_ACCESS_KEY": s3.secret})
    assert {info.name: info.size for info in open_store(both.other, access).list()} == names
    there = both.open(both.other)
    assert receipts.verify(there, both.snapshot, "full", ignore).damage == {}
    again = copies.copy(both.repository, both.snapshot, both.other, copies.Options(), ignore)
    assert (again.objects, again.kept_objects) == (0, both.copied.objects)
    assert catalogue.ids(there) == [both.snapshot]


def test_a_folder_that_loses_packs_and_a_bucket_that_has_them(tmp_path: Path, s3: S3Emulator) -> None:
    """The host has the copy's objects by signed requests, two packs at a time."""
    both = Both(tmp_path, s3, bucket_first=False)
    store = both.repository.store
    store.delete([info.name for info in store.list("packs/") if "/index-" not in info.name])
    s3.requests.clear()
    notes = both.restore().notes
    assert any("was read instead" in note for note in notes)
    gets = [seen for seen in s3.requests if seen.method == "GET" and "/packs/" in seen.path and "index" not in seen.path]
    assert len(gets) >= 4
    assert all(seen.status in (200, 206) for seen in gets)
    assert not any(s3.key in note or "X-Amz" in note for note in notes)


@pytest.mark.parametrize("how", [Fault(403, "AccessDenied"), Fault(404, "NoSuchKey"), None], ids=["refuses", "loses", "spoils"])
def test_a_bucket_that_refuses_loses_or_spoils(tmp_path: Path, s3: S3Emulator, how: Fault | None) -> None:
    both = Both(tmp_path, s3, bucket_first=True)
    if how is None:
        for name, found in list(s3.objects.items()):
            if "/packs/" in name and "/index-" not in name:
                s3.objects[name] = found._replace(data=found.data[:1000] + bytes(byte ^ 1 for byte in found.data[1000:]))
    else:

        def fault(seen: Seen) -> Fault | None:
            hit = seen.method == "GET" and "/packs/" in seen.path and "/index-" not in seen.path
            return how if hit else None

        s3.faults = fault
    notes = both.restore().notes
    assert any("was read instead" in note for note in notes), notes


def test_a_bucket_that_is_gone(tmp_path: Path, s3: S3Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens there any more, from a host's first pack on."""
    monkeypatch.setattr("torpor.wake.run.PATIENCE", 0.5)
    both = Both(tmp_path, s3, bucket_first=True)

    def fault(seen: Seen) -> Fault | None:
        hit = seen.method == "GET" and "/packs/" in seen.path and "/index-" not in seen.path
        return Fault(status=503) if hit else None

    s3.faults = fault
    assert any("was read instead" in note for note in both.restore().notes)
