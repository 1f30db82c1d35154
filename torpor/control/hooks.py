"""A person's own commands on a host: before a snapshot (flush a training job), after a restore (start a server).

A hook is a script for `sh`, run in the workspace's folder, with no input and nothing of torpor's in its environment. It travels over
standard input, so no command line shows it; it is no place for secrets all the same, since for its time it lies in a file there.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable

import msgspec

from torpor.errors import HookFailed
from torpor.jobs import show_path
from torpor.ssh.base import Dropped, Shell

TIMEOUT = 600.0  # seconds
OUTPUT_MAX = 4096  # bytes that are shown of what a hook says
_GRACE = 30.0  # seconds beyond the timeout for the host to end it by itself
_OVERDUE = (124, 137)  # of `timeout`: ended, and killed because it did not want to end

# What it leaves running keeps neither the connection nor this script waiting: its output goes to a file, which is gone afterwards.
_RUN = """\
umask 077
folder=$(mktemp -d) || exit 125
trap 'rm -rf "$folder"' EXIT
trap 'exit 143' HUP INT TERM
cat >"$folder/hook" || exit 125
cd -- {where} || exit 125
if command -v timeout >/dev/null; then limit='timeout -k 10 {seconds}'; else limit=; fi
$limit sh "$folder/hook" </dev/null >"$folder/said" 2>&1
code=$?
tail -c {most} "$folder/said"
exit $code
"""


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """`script`: what `sh` is to run. `seconds`: how long it may take."""

    script: str
    seconds: float = TIMEOUT


def before_snapshot(shell: Shell, hook: Hook, folder: bytes, note: Callable[[str], None]) -> None:
    """Run it; nothing else was done yet. Each line of the last that it said is a note. Raises `HookFailed`, `Unreachable`."""
    _run(shell, hook, folder, note, "pre-snapshot", safe="Nothing was done: no snapshot was begun, and the machine runs on.")


def after_restore(shell: Shell, hook: Hook, folder: bytes, note: Callable[[str], None]) -> None:
    """The same, once all files are there. Raises `HookFailed`, `Unreachable`; the workspace stays as it was restored."""
    safe = f"The workspace was restored and checked; it is at {show_path(folder)}."
    _run(shell, hook, folder, note, "post-restore", safe=safe)


def _run(shell: Shell, hook: Hook, folder: bytes, note: Callable[[str], None], name: str, *, safe: str) -> None:
    command = _RUN.format(where=shlex.quote(folder.decode(errors="surrogateescape")), seconds=math.ceil(hook.seconds), most=OUTPUT_MAX)
    try:
        ran = shell.run(command, hook.script.encode(), hook.seconds + _GRACE)
    except Dropped as error:
        raise HookFailed(
            f"The {name} hook's end was not seen: {error.what}", safe=safe, remedy="Look on the host whether it still runs."
        ) from error
    for line in lines(ran.out):
        note(f"{name} hook: {line}")
    if ran.code in _OVERDUE:
        raise HookFailed(
            f"The {name} hook took longer than {hook.seconds:g} seconds, and was ended.",
            safe=safe,
            remedy="Give it more time, or let it leave in the background what lasts.",
        )
    if ran.code:
        why = next(reversed(lines(ran.out or ran.err)), "")
        raise HookFailed(
            f"The {name} hook failed with exit status {ran.code}{f': {why}' if why else ''}.",
            safe=safe,
            remedy="Run it on the host by hand to see why.",
        )


def lines(said: bytes) -> list[str]:
    """Of the last `OUTPUT_MAX` bytes, the lines that hold something; what could steer a terminal is escaped."""
    return [show_path(line.rstrip()) for line in said[-OUTPUT_MAX:].splitlines() if line.strip()]
