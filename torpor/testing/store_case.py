"""Where the suites of stores begin: the hooks that a store's author fills in, and what the tests share."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, overload

import pytest

from torpor.errors import TorporError
from torpor.storage.base import Store
from torpor.storage.table import open_store

SNAPSHOT = "20260801T120000000-0a1b2c3d"
OTHER = "20260802T120000000-4e5f6071"
FOLDER = f"packs/{SNAPSHOT}/"
PACK = f"{SNAPSHOT}/89abcdef-0"
THREADS = 8
MIB = 1 << 20


class FailingParts(Sequence[bytes]):
    """Parts of which the third cannot be read."""

    def __len__(self) -> int:
        return 5

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if index == 2:
            raise OSError("the third part cannot be read")
        if isinstance(index, int) and index < 5:
            return b"part" * 1000
        raise IndexError(index)


def together(actions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run the actions at once, one thread each; what each returned or, if it failed on purpose, its error."""
    barrier = threading.Barrier(len(actions))

    def run(action: Callable[[], Any]) -> Any:
        barrier.wait(timeout=60)
        try:
            return action()
        except TorporError as error:
            return error

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))


def many_parts(size: int) -> tuple[bytes, list[memoryview]]:
    """Random bytes, and the same as parts of many lengths, empty ones among them."""
    whole = os.urandom(size)
    view = memoryview(whole)
    parts: list[memoryview] = []
    at = 0
    while at < size:
        length = (len(parts) * 7919) % 40_000
        parts.append(view[at : at + length])
        at += length
    return whole, parts


class StoreCase:
    store: Store
    tmp_path: Path

    @abstractmethod
    def make_store(self) -> Store:
        """An empty store. `self.tmp_path` is an empty folder."""

    def open_again(self, url: str) -> Store:
        """The same objects by their URL; a store that needs credentials gives them here."""
        return open_store(url)

    def fill(self, names: Sequence[str]) -> None:
        """Put many objects, each with its name as its content; a store of which each put takes long may have a quicker way."""
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda name: self.store.put(name, name.encode()), names))

    @abstractmethod
    def raw_get(self, name: str) -> bytes | None:
        """An object's bytes, not through the store; None if there is none."""

    @abstractmethod
    def raw_put(self, name: str, data: bytes) -> None:
        """Make or replace an object (of any name), not through the store."""

    @abstractmethod
    def raw_delete(self, name: str) -> None:
        """Remove an object, not through the store."""

    @pytest.fixture(autouse=True)
    def _prepare(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.store = self.make_store()

    def names(self, prefix: str = "") -> list[str]:
        return [info.name for info in self.store.list(prefix)]

    def alone_after_a_race(self, name: str) -> bool:
        """Whether it is what its folder holds, once several have written and deleted there at once. For services whose lists lag."""
        return self.names(name.rpartition("/")[0] + "/") == [name]
