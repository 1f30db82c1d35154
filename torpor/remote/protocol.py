"""The lines that a host's engine says, and the version both ends must agree on."""

from __future__ import annotations

import msgspec

from torpor.events import Event

PROTOCOL = 1


class Line(msgspec.Struct, omit_defaults=True):
    """One line of output: a greeting, an event, the result, or the failure."""

    event: Event | None = None
    result: msgspec.Raw = msgspec.Raw()
    failure: dict[str, object] | None = None
    torpor: str = ""
    protocol: int = 0
