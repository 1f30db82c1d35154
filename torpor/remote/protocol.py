"""The lines that a host's engine says, and the version both ends must agree on."""

from __future__ import annotations

import msgspec

from torpor.errors import HostFailed
from torpor.events import Event
from torpor.format.untrusted import BROKEN

PROTOCOL = 1
LINE_MAX = 64 * 1024 * 1024  # bytes; a longer line is not one of torpor's


class Line(msgspec.Struct, omit_defaults=True):
    """One line of output: a greeting, an event, the result, or the failure."""

    event: Event | None = None
    result: msgspec.Raw = msgspec.Raw()
    failure: dict[str, object] | None = None
    torpor: str = ""
    protocol: int = 0


_lines: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def parse(text: bytes) -> Line:
    """A line that a host said. Raises `HostFailed` for anything else."""
    try:
        return _lines.decode(text)
    except BROKEN as error:
        raise HostFailed(
            f"The host's engine said what torpor does not say: {error}.",
            safe="What reached the store is kept; nothing was destroyed.",
            remedy="Look at what the host prints when a program starts, and at its version of torpor.",
        ) from None
