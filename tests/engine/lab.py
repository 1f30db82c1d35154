"""A laboratory: a repository in memory (or in a folder), machines that are folders, and the control side's own functions."""

from __future__ import annotations

import os
import select
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from torpor.clock import SYSTEM, Clock, FakeClock
from torpor.control import catalogue, prune, receipts, repository, restores, snapshots
from torpor.control.receipts import Depth, Verified
from torpor.control.repository import Repository
from torpor.control.snapshots import Taken
from torpor.events import Listener, ignore
from torpor.format import recovery
from torpor.jobs import RestoreResult, Scope
from torpor.native import kernels
from torpor.remote.host import Host, InProcess
from torpor.settings import load
from torpor.storage.base import Store
from torpor.storage.memory import MemoryStore
from torpor.testing.compare import compare_trees

OptionsOf = dict[str, Any]


@dataclass
class Lab:
    """One store, one home, one repository in it, made at once. `machine` names whose records (state folder) a job uses."""

    folder: Path
    clock: Clock = SYSTEM
    store: Store = field(default_factory=MemoryStore)
    host: Host = field(default_factory=InProcess)
    encryption: str = repository.ENCRYPTED

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.repository = self.open("home", create=True)

    def open(self, home: str, *, create: bool = False, **environment: str) -> Repository:
        """The repository as another control side sees it: by its own home, and what the environment gives it."""
        settings = load({"TORPOR_HOME": str(self.folder / home), **environment}, self.store.url)
        return repository.open_repository(settings, create=create, encryption=self.encryption, clock=self.clock)

    @property
    def recovery_key(self) -> str:
        return recovery.encode(self.repository.private().recovery)

    @property
    def memory(self) -> MemoryStore:
        assert isinstance(self.store, MemoryStore)
        return self.store

    def objects(self, prefix: str = "") -> dict[str, int]:
        """Size by name of what is in the store."""
        return {info.name: info.size for info in self.store.list(prefix)}

    def state(self, machine: str) -> bytes:
        return os.fsencode(self.folder / "state" / machine)

    def take(
        self, *roots: Path | bytes, machine: str = "a", scope: OptionsOf | None = None, listen: Listener = ignore, **options: Any
    ) -> Taken:
        if isinstance(self.clock, FakeClock):
            self.clock.advance(1)  # ids of one millisecond stand in no order
        wanted = Scope(roots=[os.fsencode(root) for root in roots], **(scope or {}))
        return snapshots.take(self.repository, self.host, wanted, self.state(machine), snapshots.Options(**options), listen)

    def restore(
        self,
        target: Path | bytes | None,
        snapshot: str = "latest",
        machine: str = "b",
        repository: Repository | None = None,
        listen: Listener = ignore,
        **options: Any,
    ) -> RestoreResult:
        repo = repository or self.repository
        where = None if target is None else os.fsencode(target)
        found = catalogue.resolve(repo, snapshot)
        return restores.restore(repo, self.host, found, where, self.state(machine), restores.Options(**options), listen)

    def verify(self, snapshot: str = "latest", depth: Depth = "full") -> Verified:
        return receipts.verify(self.repository, catalogue.resolve(self.repository, snapshot), depth, ignore)

    def check_all(self) -> list[str]:
        """Verify every snapshot in full; their ids. Each must be whole."""
        found = catalogue.ids(self.repository)
        for snapshot in found:
            assert self.verify(snapshot).damage == {}, snapshot
        return found

    def remove(self, snapshot: str) -> None:
        prune.remove(self.repository, snapshot)

    def prune(self, grace: float = prune.GRACE) -> prune.Report:
        return prune.prune(self.repository, grace=grace)


def same(source: Path, copy: Path, ignore: tuple[str, ...] = ()) -> None:
    """Assert that two trees are the same in all that a snapshot keeps."""
    differences = compare_trees(source, copy, ignore=ignore)
    assert differences == []


def write(path: Path, data: bytes | str) -> Path:
    """A file of this content, its mtime well in the past."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return touch(path)


def touch(path: Path, back: float = 1000.0) -> Path:
    """Set an mtime that many seconds ago."""
    at = time.time_ns() - int(back * 1e9)
    os.utime(path, ns=(at, at))
    return path


def let_age(*paths: Path, seconds: float = 2.05) -> None:
    """Wait until the last change to these files (their ctimes) lies so far back that the engine trusts their stat."""
    newest = 0.0
    for path in paths:
        for folder, folders, files in os.walk(path):
            newest = max(newest, *(os.lstat(os.path.join(folder, name)).st_ctime for name in [".", *folders, *files]))
        newest = max(newest, path.lstat().st_ctime)
    while (left := newest + seconds - time.time()) > 0:
        assert left <= seconds, "a clock went back"
        select.select([], [], [], left)


def either_way(way: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab whose engine uses the compiled kernels, which must be there, or (`by hand`) does without."""
    if way == "by hand":
        monkeypatch.setattr(kernels, "library", lambda: None)
    else:
        assert kernels.library() is not None
    return Lab(folder)
