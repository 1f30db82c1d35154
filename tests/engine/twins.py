"""A repository with snapshots of many packs, and a second store for copies of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.engine.lab import Lab, same, write
from torpor.access import Access
from torpor.control import copies
from torpor.control.copies import Copied, Options
from torpor.control.repository import Repository
from torpor.events import ignore
from torpor.jobs import RestoreResult
from torpor.storage.base import Store
from torpor.storage.local import LocalStore
from torpor.storage.memory import MemoryStore
from torpor.testing.samples import noise, text, weights

MIB = 1 << 20


class Twins:
    """`lab` has one snapshot of `root`, `snapshot`; `other` is empty."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, kind: str) -> None:
        patch.setattr("torpor.hibernate.packer.PACK_TARGET", MIB)
        self.folder = folder
        self.root = folder / "workspace"
        for number in range(4):
            write(self.root / f"code/{number}.py", text(3000, number))
            write(self.root / f"random-{number}", noise(MIB + 77, number))
        write(self.root / "weights", weights("bf16", 3 * MIB, 1))
        first: Store = MemoryStore() if kind == "memory" else LocalStore.from_url((folder / "first").as_uri(), Access())
        self.other: Store = MemoryStore() if kind == "memory" else LocalStore.from_url((folder / "other").as_uri(), Access())
        self.lab = Lab(folder / "lab", store=first)
        self.snapshot = self.lab.take(self.root).snapshot.id

    @property
    def first(self) -> Store:
        return self.lab.store

    def copy(self, snapshot: str = "", repository: Repository | None = None, to: Store | None = None, **options: Any) -> Copied:
        where = (to or self.other).url
        return copies.copy(repository or self.lab.repository, snapshot or self.snapshot, where, Options(**options), ignore)

    def at(self, store: Store, home: str = "home") -> Repository:
        """The repository as it is in a store, by the keys of a home or, in a new one, by the recovery key."""
        return _Elsewhere(self.lab, store).open(home, TORPOR_RECOVERY_KEY=self.lab.recovery_key)

    def restore(self, repository: Repository | None = None, **options: Any) -> RestoreResult:
        """Restore the snapshot to a new folder; it must be exactly the workspace."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        result = self.lab.restore(out, self.snapshot, repository=repository, **options)
        same(self.root, out)
        return result

    def packs(self, store: Store) -> list[str]:
        return [info.name for info in store.list("packs/") if "/index-" not in info.name]

    def index(self, store: Store) -> str:
        (found,) = [info.name for info in store.list("packs/") if "/index-" in info.name]
        return found

    def flip(self, store: Store, name: str, part: float = 0.5) -> None:
        data = bytearray(store.get(name))
        data[int(len(data) * part)] ^= 0x10
        store.put(name, bytes(data))


def contents(store: Store, *prefixes: str) -> dict[str, bytes]:
    return {info.name: store.get(info.name) for prefix in prefixes or ("",) for info in store.list(prefix)}


class _Elsewhere(Lab):
    """The same laboratory with another store."""

    def __init__(self, lab: Lab, store: Store) -> None:
        self.folder, self.clock, self.encryption, self.store = lab.folder, lab.clock, lab.encryption, store
