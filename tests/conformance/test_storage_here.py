"""Stores that need no service, held to the shipped suite; tests/architecture/test_tables.py asks that every row is."""

from __future__ import annotations

from pathlib import Path

from torpor.storage.base import Store
from torpor.storage.local import LocalStore
from torpor.storage.memory import MemoryStore, Object
from torpor.storage.wrapper import Wrapper
from torpor.testing.store_suite import StoreSuite


class TestLocal(StoreSuite):
    @property
    def root(self) -> Path:
        return self.tmp_path / "a folder {name} with % é"

    def make_store(self) -> Store:
        return LocalStore(str(self.root))

    def raw_get(self, name: str) -> bytes | None:
        path = self.root / name
        return path.read_bytes() if path.is_file() else None

    def raw_put(self, name: str, data: bytes) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(data)

    def raw_delete(self, name: str) -> None:
        (self.root / name).unlink()


class TestMemory(StoreSuite):
    digest = "none"

    def make_store(self) -> Store:
        self.memory = MemoryStore(digest=self.digest)
        return self.memory

    def raw_get(self, name: str) -> bytes | None:
        found = self.memory.objects.get(name)
        return None if found is None else found.data

    def raw_put(self, name: str, data: bytes) -> None:
        self.memory.objects[name] = Object(data, 1.0, b"")

    def raw_delete(self, name: str) -> None:
        del self.memory.objects[name]


class TestMemoryWithDigests(TestMemory):
    digest = "sha256"


class TestWrapped(TestMemory):
    """A wrapper that does nothing is a store like any other."""

    def make_store(self) -> Store:
        return Wrapper(super().make_store())
