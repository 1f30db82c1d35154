"""A lease: what a rented machine is called before it is made, how long it may live unclaimed, and what it may cost.

The label is given to the provider with the request that makes the machine, so that whatever happens to the answer, the machine can be
found: `torpor-<id>-<until>`. Once the machine is handed over to its user it is `torpor-<id>-kept`, and nobody sweeps it.
"""

from __future__ import annotations

import re
import secrets

import msgspec

PREFIX = "torpor-"
_LABEL = re.compile(r"torpor-([0-9a-f]{12})-(kept|[0-9]{1,11})\Z")


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """`until`: seconds since 1970 by which the machine is handed over or destroyed. `spend`: dollars it may cost
    until then, 0 no cap: `until` is no later than they last."""

    id: str
    until: int
    spend: float = 0.0

    @property
    def label(self) -> str:
        return f"{PREFIX}{self.id}-{self.until}"

    @property
    def kept(self) -> str:
        return f"{PREFIX}{self.id}-kept"


class Label(msgspec.Struct, frozen=True):
    """What a label says. `until` is None once the machine was handed over."""

    id: str
    until: int | None

    def __str__(self) -> str:
        return f"{PREFIX}{self.id}-{'kept' if self.until is None else self.until}"


def new(now: float, seconds: float, spend: float = 0.0) -> Lease:
    """A lease that runs out `seconds` after `now`."""
    return Lease(id=secrets.token_hex(6), until=int(now + seconds), spend=spend)


def parse(text: str) -> Label | None:
    """None for labels that are not torpor's."""
    found = _LABEL.match(text)
    if found is None:
        return None
    return Label(found[1], None if found[2] == "kept" else int(found[2]))
