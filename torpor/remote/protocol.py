"""The lines that a host's engine says, and the version both ends must agree on."""

from __future__ import annotations

from typing import Literal

import msgspec

from torpor.errors import HostFailed, from_dict
from torpor.events import Event
from torpor.format.untrusted import BROKEN
from torpor.jobs import Ask, Grant

PROTOCOL = 3
LINE_MAX = 64 * 1024 * 1024  # bytes; a longer line is not one of torpor's


# What a host knows of a long job: nothing; it runs; it has a result or a failure; its process is gone without either.
Known = Literal["", "new", "running", "ended", "died"]


class Line(msgspec.Struct, omit_defaults=True):
    """One line of output: a greeting, an event, a question that waits for a `Reply`, the result, or the failure.

    `number`: of an `ask`, the one that its reply has too. Of other lines of a long job, their place in its journal, from 1; 0 for those
    that are not kept. `job`: in the greeting of a long one.
    """

    event: Event | None = None
    ask: Ask | None = None
    result: msgspec.Raw = msgspec.Raw()
    failure: dict[str, object] | None = None
    torpor: str = ""
    protocol: int = 0
    number: int = 0
    job: Known = ""


class Reply(msgspec.Struct, omit_defaults=True):
    """One line of input, after the job: the answer to the `ask` of this number."""

    grant: Grant | None = None
    failure: dict[str, object] | None = None
    number: int = 0


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


_replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def parse_reply(text: bytes) -> Reply:
    """What the control side answered. Raises `HostFailed` if it is gone, or answers anything else."""
    try:
        return _replies.decode(text)
    except BROKEN:
        raise HostFailed(
            "The control side does not answer any more." if not text else "The control side answered what torpor does not say.",
            safe="What reached the store is kept; nothing was destroyed.",
            remedy="Run the command again: it goes on from there.",
        ) from None


def grant_of(reply: Reply, number: int) -> Grant:
    """What was asked for by that number. Raises the failure that came instead, `HostFailed` for another's answer."""
    if reply.number != number:
        raise HostFailed(
            "The control side answered another question than it was asked.",
            safe="What reached the store is kept; nothing was destroyed.",
            remedy="Install the same version of torpor on both sides, and run the command again.",
        )
    if reply.grant is None:
        raise from_dict(reply.failure or {})
    return reply.grant
