"""Ctrl-C and SIGTERM: the first asks the command to end well, the second ends it at once."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from torpor.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = "\x1b[?25h"

groups: set[int] = set()  # process groups of children, which end with this process
_seen = False


def install() -> None:
    """From now on the first signal raises `Interrupted` in the main thread. Call it there."""
    for number in SIGNALS:
        signal.signal(number, _stop)


def seen() -> bool:
    """Whether a signal asked this process to stop."""
    return _seen


def _stop(number: int, _: FrameType | None) -> None:
    global _seen  # noqa: PLW0603 - a handler has no other place to remember
    if _seen:
        if sys.stderr.isatty():
            os.write(2, _SHOW_CURSOR.encode())
        for group in groups:
            os.killpg(group, signal.SIGKILL)
        os._exit(Interrupted.exit_code)
    _seen = True
    raise Interrupted(
        f"The command was stopped by {signal.Signals(number).name}.",
        safe="Snapshots that were complete are untouched.",
        remedy="Run it again.",
    )
