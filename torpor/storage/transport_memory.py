"""`memory:` requests: a store of the same process. It plays the server, so its clock ends the grants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.storage.base import PACKS, Exists
from torpor.storage.memory import MemoryStore, find
from torpor.storage.options import DEFAULT, Counters
from torpor.storage.transfer import PutInfo, check_expiry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Buffer

    from torpor.storage.grants import Call
    from torpor.storage.options import Options


class MemoryTransport:
    def __init__(self, options: Options = DEFAULT) -> None:
        del options

    def counters(self) -> Counters:
        return Counters()

    def put(self, call: Call, parts: Sequence[Buffer], blake3: bytes) -> PutInfo:
        store, name = _locate(call)
        try:
            info = store.put(name, parts, if_absent=True)
        except Exists:
            from blake3 import blake3 as hasher

            found = store.head(name)
            if found is None or hasher(store.get(name)).digest() != blake3:
                raise
            info = found
        return PutInfo(call.name, info.size, info.digest_kind, info.digest)

    def get(self, call: Call, start: int, length: int | None) -> bytes:
        store, name = _locate(call)
        return store.get(name, start, length)

    def get_into(self, call: Call, start: int, out: memoryview) -> None:
        store, name = _locate(call)
        store.get_into(name, start, out)

    def sync(self, calls: Iterable[Call]) -> None:
        for call in calls:
            _locate(call)

    def close(self) -> None:
        return None  # it holds nothing


def _locate(call: Call) -> tuple[MemoryStore, str]:
    """The store and the object's name in full, from `memory://<id>/packs/<name>`."""
    base, _, below = call.url.partition("/" + PACKS)
    store = find(base)
    check_expiry(call, store.clock.now())
    return store, PACKS + below
