"""What a probe makes in a store: each name is written down before it is used, so that all of it can be taken away again.

Small objects lie under `doctor/`, which nobody reads. What goes the way of a host lies under `packs/`, as of a snapshot that will never
be: should it stay, because the process was killed, prune finds it.
"""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from torpor.control.finding import Check
from torpor.errors import TorporError
from torpor.format import names
from torpor.storage.base import PACKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torpor.clock import Clock
    from torpor.jobs import Grant
    from torpor.storage.base import Store

PREFIX = "doctor/"
_LIFETIME = 900.0  # seconds; of a grant
_HEADS = 8  # requests at once


class Trail:
    """One probe of one store. `folder`: what its small objects' names begin with; `nothing`: a pack that is not there. For one thread."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.folder = f"{PREFIX}{secrets.token_hex(8)}-"
        self._snapshot = names.snapshot_id(clock.now(), secrets.token_bytes(4))
        self._attempt = secrets.token_hex(4)
        self.nothing = names.pack(self._snapshot, self._attempt, 0)  # a pack that is never written
        self._count = 0
        self._made: list[str] = []
        self._grants: list[Grant] = []

    def object(self) -> str:
        """A new name under `doctor/`."""
        self._count += 1
        return self._note(f"{self.folder}{self._count}")

    def pack(self) -> str:
        """A new name below `packs/`."""
        self._count += 1
        return self._note(PACKS + names.pack(self._snapshot, self._attempt, self._count))[len(PACKS) :]

    def stranger(self) -> str:
        """A new name below `packs/`, of another snapshot, which no grant of this probe covers."""
        other = names.snapshot_id(self.clock.now(), secrets.token_bytes(4))
        return self._note(PACKS + names.pack(other, self._attempt, 0))[len(PACKS) :]

    def forget(self, name: str) -> None:
        """The store refused to take it."""
        self._made.remove(name)

    def to_put(self, packs: Sequence[str], expires: float | None = None) -> Grant:
        """A grant to write these; it lasts 15 minutes unless told."""
        prefix, end = f"{PACKS}{self._snapshot}/", self.clock.now() + _LIFETIME if expires is None else expires
        grant = self.store.grant_put(prefix, end, [PACKS + name for name in packs])
        self._grants.append(grant)
        return grant

    def to_get(self, packs: Iterable[str], expires: float | None = None) -> Grant:
        return self.store.grant_get([PACKS + name for name in packs], self.clock.now() + _LIFETIME if expires is None else expires)

    def clear(self) -> Check | None:
        """Delete all that was made, and take the grants back. None if nothing was made. Raises no `TorporError`."""
        problem: TorporError | None = None
        for grant in self._grants:
            try:
                self.store.end_grant(grant)
            except TorporError as error:
                problem = error
        left: list[str] = []
        if self._made:
            try:
                self.store.delete(self._made)
                with ThreadPoolExecutor(_HEADS) as pool:
                    found = list(pool.map(self.store.head, self._made))
                left = [info.name for info in found if info is not None]
            except TorporError as error:
                problem, left = error, self._made
        if problem is not None:
            return Check("delete", "fail", problem.what, f"{problem.remedy} {_yourself(left)}".strip())
        if left:
            remedy = f"See whether the store keeps versions. {_yourself(left)}"
            return Check("delete", "fail", f"{len(left)} objects are still there", remedy)
        return Check("delete", "ok", f"all {len(self._made)} objects of this probe are gone again") if self._made else None

    def _note(self, name: str) -> str:
        self._made.append(name)
        return name


def _yourself(left: list[str]) -> str:
    if not left:
        return ""
    shown = ", ".join(left[:3]) + (", …" if left[3:] else "")
    return f"Delete what may be left yourself: {shown}. Prune can't work without the right to delete."
