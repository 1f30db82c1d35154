"""A store in this process's memory: for tests and trials. It keeps the whole contract, and its grants work within the process."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

from torpor.errors import NotFound
from torpor.storage.base import (
    Capabilities,
    Exists,
    Info,
    Missing,
    Store,
    check_name,
    check_prefix,
    check_range,
    is_name,
    parts_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torpor.access import Access
    from torpor.clock import Clock
    from torpor.jobs import Grant
    from torpor.storage.base import Data

SCHEME = "memory://"

_alive: WeakValueDictionary[str, MemoryStore] = WeakValueDictionary()


class Object(NamedTuple):
    data: bytes
    modified: float
    digest: bytes


class MemoryStore(Store):
    """An empty store. `clock` dates its objects and ends its grants; `digest` is the kind it keeps: "none" or a name of hashlib.

    `objects` is the content by name; tests may reach into it. The store lives as long as something refers to it.
    """

    def __init__(self, clock: Clock | None = None, digest: str = "none") -> None:
        from torpor.clock import SYSTEM

        self.clock = clock or SYSTEM
        self.objects: dict[str, Object] = {}
        self._lock = threading.Lock()
        self._capabilities = Capabilities(
            conditional_put=True, digest=digest, presign=False, prefix_grants=True, consistent_list=True, provider="memory"
        )
        self._url = SCHEME + os.urandom(8).hex()
        _alive[self._url] = self

    @classmethod
    def from_url(cls, url: str, access: Access) -> MemoryStore:
        """`memory:` is a new store, `memory://<id>` one that this process still holds."""
        del access  # memory needs none
        return cls() if url in ("memory:", SCHEME) else find(url)

    @property
    def url(self) -> str:
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def put(self, name: str, data: Data, *, if_absent: bool = False) -> Info:
        check_name(name)
        whole = b"".join(parts_of(data))
        kind = self._capabilities.digest
        digest = b"" if kind == "none" else hashlib.new(kind, whole, usedforsecurity=False).digest()
        with self._lock:
            if if_absent and name in self.objects:
                raise Exists(f"{self._url} already has {name}.")
            self.objects[name] = Object(whole, self.clock.now(), digest)
            return self._info(name)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        return bytes(self._range(name, start, length))

    def get_into(self, name: str, start: int, out: memoryview) -> None:
        out = out.cast("B")
        out[:] = self._range(name, start, len(out))

    def head(self, name: str) -> Info | None:
        check_name(name)
        with self._lock:
            return self._info(name) if name in self.objects else None

    def list(self, prefix: str = "") -> Iterator[Info]:
        check_prefix(prefix)
        with self._lock:
            found = [self._info(name) for name in sorted(self.objects) if name.startswith(prefix) and is_name(name)]
        return iter(found)

    def delete(self, names: Iterable[str]) -> int:
        count = 0
        for name in names:
            check_name(name)
            with self._lock:
                self.objects.pop(name, None)
            count += 1
        return count

    def sync(self) -> None:
        return None  # nothing here outlives the process, so nothing waits to be written

    def grant_put(self, prefix: str, expires: float, names: Sequence[str] = ()) -> Grant:
        from torpor.storage.grants import put_by_prefix

        return put_by_prefix(self._url, prefix, expires)

    def grant_get(self, names: Iterable[str], expires: float) -> Grant:
        from torpor.storage.grants import get_by_name

        return get_by_name(self._url, names, expires)

    def _info(self, name: str) -> Info:
        data, modified, digest = self.objects[name]
        return Info(name, len(data), modified, self._capabilities.digest, digest)

    def _range(self, name: str, start: int, length: int | None) -> memoryview:
        check_name(name)
        with self._lock:
            found = self.objects.get(name)
        if found is None:
            raise Missing(f"{self._url} has no {name}.")
        return memoryview(found.data)[start : check_range(name, len(found.data), start, length)]


def find(url: str) -> MemoryStore:
    """The store of that URL, if this process holds it."""
    store = _alive.get(url)
    if store is None:
        raise NotFound("This process holds no such memory store.", remedy="Write memory: for a new one; it ends with the process.")
    return store
