"""Stores behind a gateway: the same store to the control side, and what a host does by their grants goes over HTTP."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from torpor.remote.gateway import Gateway
from torpor.remote.gateway_store import TunnelledStore
from torpor.storage.base import Store
from torpor.storage.local import LocalStore
from torpor.storage.memory import MemoryStore, Object
from torpor.testing.grant_suite import GrantSuite
from torpor.testing.store_suite import StoreSuite


class TestTunnelledFolder(StoreSuite):
    gateway: Gateway

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _serve(cls) -> Iterator[None]:
        with Gateway() as cls.gateway:
            yield

    @property
    def root(self) -> Path:
        return self.tmp_path / "a folder {name} with % é"

    def make_store(self) -> Store:
        return TunnelledStore(LocalStore(str(self.root)), self.gateway, lambda: self.gateway.port)

    def raw_get(self, name: str) -> bytes | None:
        path = self.root / name
        return path.read_bytes() if path.is_file() else None

    def raw_put(self, name: str, data: bytes) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(data)

    def raw_delete(self, name: str) -> None:
        (self.root / name).unlink()


class TestTunnelledMemory(GrantSuite):
    """A store without files, and with digests that the host compares."""

    gateway: Gateway

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _serve(cls) -> Iterator[None]:
        with Gateway() as cls.gateway:
            yield

    def make_store(self) -> Store:
        self.memory = MemoryStore(digest="md5")
        return TunnelledStore(self.memory, self.gateway, lambda: self.gateway.port)

    def raw_get(self, name: str) -> bytes | None:
        found = self.memory.objects.get(name)
        return None if found is None else found.data

    def raw_put(self, name: str, data: bytes) -> None:
        self.memory.objects[name] = Object(data, 1.0, hashlib.md5(data).digest())

    def raw_delete(self, name: str) -> None:
        del self.memory.objects[name]
