"""The host's end of a grant: one way to move packs, whatever the store. Each URL scheme is a row of `TRANSPORTS`."""

from __future__ import annotations

import threading
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, Protocol

from torpor.errors import UsageError
from torpor.storage.base import GrantExpired
from torpor.storage.grants import find

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from typing_extensions import Buffer, Self

    from torpor.jobs import Grant
    from torpor.storage.grants import Call


class PutInfo(NamedTuple):
    """One object that was written. `digest` is what the store says of it, of kind `digest_kind`; empty if that is "none"."""

    name: str
    size: int
    digest_kind: str = "none"
    digest: bytes = b""


class Transport(Protocol):
    """Moves bytes for the URLs of one scheme, for any number of threads. The methods are `Transfer`'s, with the request found."""

    def put(self, call: Call, parts: Sequence[Buffer], blake3: bytes) -> PutInfo: ...

    def get(self, call: Call, start: int, length: int | None) -> bytes: ...

    def get_into(self, call: Call, start: int, out: memoryview) -> None: ...

    def sync(self, calls: Iterable[Call]) -> None: ...

    def close(self) -> None: ...


TRANSPORTS = {
    "file": ("torpor.storage.transport_file", "FileTransport"),
    "memory": ("torpor.storage.transport_memory", "MemoryTransport"),
}


class Transfer:
    """What one job may read and write. Names are those below `packs/`.

    Errors: `BadName` and `NotGranted` before anything is sent; `GrantExpired`; `StorageUnavailable` (trying again can help), its
    subclass `Refused` (it cannot), `NoSpace`. All methods may be called from several threads at once.
    """

    def __init__(self, grant: Grant) -> None:
        self._grant = grant
        self._lock = threading.Lock()
        self._transports: dict[str, Transport] = {}

    @property
    def grant(self) -> Grant:
        return self._grant

    def renew(self, grant: Grant) -> None:
        """Use a fresh grant from now on; calls that are under way keep theirs."""
        self._grant = grant

    def put(self, name: str, parts: Sequence[Buffer], blake3: bytes) -> PutInfo:
        """Write a new object of `parts`, one after the other. `blake3`: the digest of the whole, 32 bytes.

        It appears whole or not at all, and never replaces another: a name that is taken raises `Exists`, unless the object there
        is this very one, as after a try whose answer was lost. A store without conditional puts cannot promise that; there, names
        that are never used twice do. Durable once `sync` returned.
        """
        call = find(self._grant, "put", name)
        return self._transport(call).put(call, parts, blake3)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """`length` bytes from `start`; None: to the end. `Missing` if there is no object, `Damaged` if it is too short."""
        call = find(self._grant, "get", name)
        return self._transport(call).get(call, start, length)

    def get_into(self, name: str, start: int, out: memoryview) -> None:
        """Fill `out` from `start` on. Errors as `get`; what `out` holds after one is undefined."""
        call = find(self._grant, "get", name)
        self._transport(call).get_into(call, start, out)

    def sync(self, names: Iterable[str]) -> None:
        """Return once these objects, which this job put, are durable. Most stores answer no put sooner and need nothing here."""
        by_scheme: dict[str, list[Call]] = {}
        for name in names:
            call = find(self._grant, "put", name)
            by_scheme.setdefault(_scheme(call), []).append(call)
        for calls in by_scheme.values():
            self._transport(calls[0]).sync(calls)

    def close(self) -> None:
        """Let go of files and connections. The next call opens new ones."""
        with self._lock:
            transports, self._transports = self._transports, {}
        for transport in transports.values():
            transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _transport(self, call: Call) -> Transport:
        scheme = _scheme(call)
        with self._lock:
            if scheme not in self._transports:
                if scheme not in TRANSPORTS:
                    raise UsageError(
                        f"This host's torpor cannot reach storage by {scheme}: requests.",
                        remedy="Install the control side's version of torpor on the host.",
                    )
                module, name = TRANSPORTS[scheme]
                self._transports[scheme] = getattr(import_module(module), name)()
            return self._transports[scheme]


def _scheme(call: Call) -> str:
    return call.url.partition(":")[0].lower()


def check_expiry(call: Call, now: float) -> None:
    """For transports to places that cannot refuse by themselves."""
    if call.expires and now >= call.expires:
        raise GrantExpired(f"The grant for {call.name} has run out.", remedy="The control side renews a running job's grant by itself.")
