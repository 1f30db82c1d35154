"""What a running job may read and write: a first grant, and more when it asks, never beyond its own snapshot.

A job is given requests for so many packs at a time as it may need soon, each for a few hours, so that what leaks of it is little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from torpor.errors import HostFailed, StorageUnavailable, TorporError
from torpor.format import names
from torpor.jobs import PACKS_ASKED, Grant
from torpor.storage.base import PACKS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torpor.control.repository import Repository
    from torpor.jobs import Ask
    from torpor.storage.base import Store

LIFETIME = 6 * 3600.0
BRIEF = 600.0  # where nothing but the end of a request keeps a host from writing over what was committed
_ASKED_MAX = 1000
_GRANTS_MAX = 4096  # grants of one job that have not run out


def _unnoted(revocation: str) -> None:
    del revocation


class ForSnapshot:
    """Writing the packs and the index of one attempt at one snapshot.

    `note` is told of each grant, before it is given, how it can be taken back; `before`: the same of grants that another process gave.
    """

    def __init__(
        self, repository: Repository, snapshot: str, attempt: str, note: Callable[[str], None] = _unnoted, before: Sequence[str] = ()
    ) -> None:
        self._repository = repository
        self._prefix = f"{PACKS}{snapshot}/"
        self._writer = names.writer(snapshot, attempt)
        packs = [names.pack(snapshot, attempt, number) for number in range(PACKS_ASKED)]
        self._first = [names.index(snapshot, attempt), *packs]
        self._given: list[Grant] = []
        self._note = note
        self._before = list(before)

    def first(self) -> Grant:
        return self._grant(self._first)

    def more(self, ask: Ask) -> Grant:
        """Raises `HostFailed` for names of anything else than this attempt."""
        if ask.get or any(not _is_of(self._writer, name) for name in ask.put):
            raise _too_much()
        return self._grant(ask.put)

    def end(self) -> float:
        """The job is over: take back what the store can take back. What cannot be now ends by itself.

        Until when (seconds since 1970) something that the host was given could still write over what it put: 0 if nothing can.
        """
        now = self._repository.clock.now()
        able = self._repository.store.capabilities
        exposed = 0.0 if able.conditional_put or able.prefix_grants else now + BRIEF  # whatever was given before now, by anybody
        for grant in self._given:
            try:
                self._repository.store.end_grant(grant)
            except StorageUnavailable:
                exposed = max(exposed, grant.expires)
        for revocation in self._before:
            try:
                self._repository.store.revoke(revocation)
            except StorageUnavailable:
                exposed = max(exposed, now + LIFETIME)
        self._given, self._before = [], []
        return exposed

    def _grant(self, wanted: list[str]) -> Grant:
        if len(wanted) > _ASKED_MAX:
            raise _too_much()
        now = self._repository.clock.now()
        able = self._repository.store.capabilities
        life = LIFETIME if able.conditional_put or able.prefix_grants else BRIEF
        grant = self._repository.store.grant_put(self._prefix, now + life, [PACKS + name for name in wanted])
        self._given = [given for given in self._given if not 0 < given.expires <= now] + [grant]  # a job may ask for weeks
        if len(self._given) > _GRANTS_MAX:
            raise _too_much()
        self._note(self._repository.store.revocation(grant))
        return grant


class ForRestore:
    """Reading `allowed`: the index of one snapshot and the packs that it names, in the order in which they will be wanted.

    `copies` are other stores of the same objects: each grant has theirs for a fallback.
    """

    def __init__(self, repository: Repository, allowed: list[str], copies: Sequence[Store] = ()) -> None:
        self._repository = repository
        self._copies = list(copies)
        self._allowed = allowed
        self._known = frozenset(allowed)

    def first(self) -> Grant:
        return self._grant(self._allowed[: PACKS_ASKED + 1])

    def more(self, ask: Ask) -> Grant:
        """Raises `HostFailed` for names that the snapshot does not need."""
        if ask.put or not self._known.issuperset(ask.get):
            raise _too_much()
        return self._grant(ask.get)

    def _grant(self, wanted: list[str]) -> Grant:
        if len(wanted) > _ASKED_MAX:
            raise _too_much()
        full, until = [PACKS + name for name in wanted], self._repository.clock.now() + LIFETIME
        nothing = Grant(expires=until)
        below: Grant | None = None
        for copy in reversed(self._copies):
            grant = _asked(copy, full, until)
            if grant is not None or below is not None:  # one that can't be asked now keeps its place above others
                below = msgspec.structs.replace(grant or nothing, fallback=below)
        if below is None:
            return self._repository.store.grant_get(full, until)
        # There is a copy to read, so a store that can't be asked now is one that fails.
        return msgspec.structs.replace(_asked(self._repository.store, full, until) or nothing, fallback=below)


def _asked(store: Store, names: list[str], until: float) -> Grant | None:
    """None if it can't be asked now."""
    try:
        return store.grant_get(names, until)
    except TorporError:
        return None


def _is_of(writer: str, name: str) -> bool:
    return (names.is_pack(name) or names.is_index(name)) and names.writer_of(name) == writer


def _too_much() -> HostFailed:
    return HostFailed(
        "The host asked for what this job may not have.",
        safe="It was not given.",
        remedy="Look at what runs on that host; its torpor never asks for that.",
    )
