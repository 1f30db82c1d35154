"""How far this computer's clock is from a store's."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from torpor.control.finding import Check, State
from torpor.errors import Interrupted, TorporError

if TYPE_CHECKING:
    from torpor.control.trail import Trail

WARN = 60.0  # seconds
FAIL = 300.0
_REMEDY = (
    "Set this computer's clock by NTP: services refuse what is signed at another time than theirs, grants end too early or too late, "
    "and claims and prune count on the time."
)


def by_answer(trail: Trail) -> Check | None:
    """By the `Date` of an answer to nobody: it comes even where signatures are refused. None if the store has none."""
    from email.utils import parsedate_to_datetime

    from torpor.storage.options import Options
    from torpor.storage.retry import Again
    from torpor.storage.wire import Wire

    wire = Wire(Options(connect=5.0, stall=10.0))
    try:
        (request,) = trail.to_get([trail.nothing]).get.values()
        parts = urlsplit(request.url)
        if parts.scheme not in ("http", "https"):
            return None
        before = trail.clock.now()
        answer = wire.send("HEAD", f"{parts.scheme}://{parts.netloc}/", {"Accept-Encoding": "identity"})
        after = trail.clock.now()
        try:
            return between(parsedate_to_datetime(answer.header("Date")).timestamp(), before, after)
        finally:
            answer.end()
    except Interrupted:
        raise
    except (Again, TorporError, ValueError, TypeError):
        return None  # what does not work, the other checks tell
    finally:
        wire.close()


def between(theirs: float, before: float, after: float) -> Check:
    """From a time that the store told between two of this computer. Stores tell whole seconds: up to one is no difference."""
    ahead = before - theirs - 1 if before > theirs + 1 else after - theirs if after < theirs else 0.0
    skew = abs(ahead)
    state: State = "fail" if skew > FAIL else "warn" if skew > WARN else "ok"
    which = "ahead of" if ahead > 0 else "behind"
    text = f"this computer's is {skew:.1f} s {which} the store's" if skew else "this computer's and the store's agree"
    return Check("clock", state, text, "" if state == "ok" else _REMEDY, {"skew_seconds": round(skew, 3)})
