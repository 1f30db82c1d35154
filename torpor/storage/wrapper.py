"""The base of wrappers: a store around a store, with one place where a wrapper acts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from torpor.storage.base import Capabilities, Info, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torpor.jobs import Grant
    from torpor.storage.base import Data

T = TypeVar("T")


class Wrapper(Store):
    """Passes every call on to `inner` through `run`, which subclasses override. Errors while a list is read are outside `run`."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    def run(self, operation: str, name: str, call: Callable[[], T]) -> T:
        """Do one operation. `operation` is the method's name; `name` the object or prefix, or empty."""
        return call()

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def put(self, name: str, data: Data, *, if_absent: bool = False) -> Info:
        return self.run("put", name, lambda: self.inner.put(name, data, if_absent=if_absent))

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        return self.run("get", name, lambda: self.inner.get(name, start, length))

    def get_into(self, name: str, start: int, out: memoryview) -> None:
        self.run("get_into", name, lambda: self.inner.get_into(name, start, out))

    def head(self, name: str) -> Info | None:
        return self.run("head", name, lambda: self.inner.head(name))

    def list(self, prefix: str = "") -> Iterator[Info]:
        return self.run("list", prefix, lambda: self.inner.list(prefix))

    def delete(self, names: Iterable[str]) -> int:
        chosen = [*names]  # so that a wrapper can repeat the call
        return self.run("delete", chosen[0] if len(chosen) == 1 else "", lambda: self.inner.delete(chosen))

    def sync(self) -> None:
        self.run("sync", "", self.inner.sync)

    def grant_put(self, prefix: str, expires: float, names: Sequence[str] = ()) -> Grant:
        return self.run("grant_put", prefix, lambda: self.inner.grant_put(prefix, expires, names))

    def grant_get(self, names: Iterable[str], expires: float) -> Grant:
        chosen = [*names]
        return self.run("grant_get", "", lambda: self.inner.grant_get(chosen, expires))

    def end_grant(self, grant: Grant) -> None:
        self.run("end_grant", "", lambda: self.inner.end_grant(grant))

    def revocation(self, grant: Grant) -> str:
        return self.inner.revocation(grant)

    def revoke(self, revocation: str) -> None:
        self.run("revoke", "", lambda: self.inner.revoke(revocation))

    def clean(self) -> int:
        return self.run("clean", "", self.inner.clean)
