"""Does a store do what is asked of it? Everything is really tried, and taken away again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from torpor.control.finding import Check, failed, one_by_one
from torpor.control.trail import PREFIX, Trail
from torpor.errors import Interrupted, StorageUnavailable, TorporError
from torpor.storage.base import Exists, Refused

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from torpor.clock import Clock
    from torpor.storage.base import Store

_DATA = b"torpor doctor\n" * 1000
_WRITERS = 4
_OLD = 86_400.0  # seconds after which a probe object is one that a killed process left


def check_store(store: Store, clock: Clock, *, quick: bool = False) -> Generator[Check, None, None]:
    """Try all that torpor asks of a store; `quick`: all but its speed.

    What it made is deleted when the generator ends, however it ends: close it.
    """
    trail = Trail(store, clock)
    left: Check | None = None
    try:
        yield from _all(trail, quick)
    except Interrupted as error:
        left = trail.clear()
        if left is not None and left.state == "fail":
            error.remedy = left.remedy
        raise
    except TorporError as error:
        yield Check("store", "fail", error.what, error.remedy or f"See that {store.url} is there, and that this computer may write to it.")
    finally:
        left = left or trail.clear()
    if left is not None:
        yield left


def _all(trail: Trail, quick: bool) -> Iterator[Check]:
    from torpor.control import probe_clock, probe_grants

    dated = probe_clock.by_answer(trail)
    if dated is not None:
        yield dated
    listed: Refused | None = None
    before = trail.clock.now()
    try:
        old = list(trail.store.list(PREFIX))
    except Refused as error:
        listed, old = error, []
    name = trail.object()
    try:
        info = trail.store.put(name, _DATA)
    except Refused as error:
        trail.forget(name)
        if listed is not None:
            yield failed("access", listed)
        else:
            yield Check("reachable", "ok", trail.store.url)
            yield failed("writable", error)
        return
    after = trail.clock.now()
    yield Check("reachable", "ok", trail.store.url)
    yield Check("writable", "ok", "an object was written")
    if dated is None:
        yield probe_clock.between(info.modified, before, after)
    if listed is not None:
        yield failed("list", listed)
    yield from one_by_one({"readable": lambda: _readable(trail, name)})
    if not _deletes(trail, [found.name for found in old if info.modified - found.modified > _OLD]):
        return  # told when all is to be deleted; until that works, no more is written
    steps = {"list": lambda: _list(trail)} if listed is None else {}
    yield from one_by_one({**steps, "conditional put": lambda: _conditional(trail)})
    yield from probe_grants.check(trail, name)
    if not quick:
        from torpor.control import probe_speed

        yield from one_by_one({"throughput": lambda: probe_speed.check(trail)})


def _readable(trail: Trail, name: str) -> Iterator[Check]:
    if trail.store.get(name) == _DATA:
        yield Check("readable", "ok", "it was read back, byte for byte")
    else:
        yield Check("readable", "fail", "it was read back with other bytes than were written", "Do not use this store; look at its disk.")


def _deletes(trail: Trail, old: list[str]) -> bool:
    """Whether an object can be deleted. `old` ones are taken along."""
    name = trail.object()
    trail.store.put(name, _DATA)
    try:
        trail.store.delete([name, *old])
    except StorageUnavailable:
        return False
    return trail.store.head(name) is None


def _list(trail: Trail) -> Iterator[Check]:
    """Each write and each delete must show at once."""
    names = [trail.object() for _ in range(4)]
    for name in names:
        trail.store.put(name, b"listed")
    written = _listed(trail)
    trail.store.delete(names[::2])
    after = _listed(trail)
    late = [name for name in names if name not in written]
    ghosts = [name for name in names[::2] if name in after]
    if not late and not ghosts and set(names[1::2]) <= after:
        yield Check("list", "ok", "objects show in it as soon as they are written, and do not once they are deleted")
        return
    text = f"{len(late)} of {len(names)} objects were not listed once written, {len(ghosts)} were still listed once deleted"
    promised = trail.store.capabilities.consistent_list
    remedy = "Snapshots may show late, and a prune with a short grace is not safe. Do not use a cache or a mirror as the store."
    yield Check("list", "fail" if promised else "warn", text, remedy)


def _listed(trail: Trail) -> set[str]:
    return {info.name for info in trail.store.list(trail.folder)}


def _conditional(trail: Trail) -> Iterator[Check]:
    """Of several writers of one name one wins, and what it wrote stays."""
    from torpor.control.probe_grants import REPLACES, would_decide

    claims = trail.store.capabilities.conditional_put
    name = trail.object()
    texts = [b"writer %d" % number for number in range(_WRITERS)]
    with ThreadPoolExecutor(_WRITERS if claims else 1) as pool:
        wins = list(pool.map(partial(_wins, trail.store, name), texts))
    winners = [text for text, won in zip(texts, wins, strict=True) if won]
    if len(winners) == 1 and not _wins(trail.store, name, b"late") and trail.store.get(name) == winners[0]:
        if claims:
            yield Check("conditional put", "ok", f"decided by the store: of {_WRITERS} writers of one name at once, one won")
            return
        hint = "This service does decide it: write ?conditional=yes into the storage URL." if would_decide(trail) else ""
        text = "an object that is there is not replaced: by looking first, as the store is not asked to decide it"
        yield Check("conditional put", "ok", text, hint)
        return
    if claims:
        text = f"of {_WRITERS} writers of one name {len(winners)} believe to be the first, though the store is said to decide that"
        yield Check("conditional put", "fail", text, REPLACES)
    else:
        yield Check("conditional put", "fail", "an object that was there was replaced", "Do not use this store.")


def _wins(store: Store, name: str, text: bytes) -> bool:
    try:
        store.put(name, text, if_absent=True)
    except Exists:
        return False
    return True
