"""What can go wrong with one request to the S3 emulator, as data that a test scripts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.emulators.s3 import Seen

LONGEST_STALL = 120.0  # seconds; a test that never lets go ends all the same


class Fault(NamedTuple):
    """`status`: this error is answered, with `code`. `headers`: of the answer, whatever it is. `applied`: the request takes effect
    before it goes wrong.

    `upload`: the connection is reset once that many bytes of the request's body came. `answer`: so many bytes of the answer's body
    are sent, then the connection ends: by RST if `reset`, else as if all were sent. `lost`: it is reset before anything is answered.
    `document`: an error as the body of status 200. `stall`: nothing is sent, or nothing after `answer` bytes if that is set, until
    the event; then all goes on. `pause`: seconds between pieces of 64 KiB of the answer.
    """

    status: int = 0
    code: str = "InternalError"
    headers: tuple[tuple[str, str], ...] = ()
    applied: bool = False
    upload: int | None = None
    answer: int | None = None
    reset: bool = False
    lost: bool = False
    document: bool = False
    stall: threading.Event | None = None
    pause: float = 0.0


def slow_down(retry_after: int | None = None) -> Fault:
    return Fault(503, "SlowDown", (("Retry-After", str(retry_after)),) if retry_after is not None else ())


def error(status: int, code: str) -> Fault:
    return Fault(status, code)


def reset_upload(after: int = 0) -> Fault:
    return Fault(upload=after)


def reset_answer(after: int) -> Fault:
    return Fault(answer=after, reset=True)


def truncated(after: int) -> Fault:
    return Fault(answer=after)


def lost_answer() -> Fault:
    """What was asked is done, and nobody is told."""
    return Fault(applied=True, lost=True)


def error_document() -> Fault:
    return Fault(document=True)


def stalled(until: threading.Event, after: int | None = None) -> Fault:
    return Fault(stall=until, answer=after)


def slow(pause: float) -> Fault:
    return Fault(pause=pause)


def script(faults: Sequence[Fault | None], method: str = "", contains: str = "") -> Callable[[Seen], Fault | None]:
    """The n-th fault for the n-th request of that method whose path contains that text; none for all later ones."""
    left = iter(faults)
    lock = threading.Lock()

    def choose(seen: Seen) -> Fault | None:
        if (method and seen.method != method) or contains not in seen.path:
            return None
        with lock:
            return next(left, None)

    return choose
