"""The host's end: one job as JSON on standard input, one event a line as JSON on standard output, the result last.

    ← {"torpor": "0.1.0", "protocol": 3}
    → {"type": "snapshot", …}
    ← {"event": {…}}            any number
    ← {"ask": {…}, "number": 1} any number, one at a time: more requests than the grant has
    → {"grant": {…}, "number": 1}    or {"failure": {…}, "number": 1}
    ← {"result": {…}}           or {"failure": {"error": …, "what": …, "safe": …, "remedy": …}}

The exit code is the error's class. SIGTERM and SIGINT stop the job cleanly. Standard error is for defects only.
"""

from __future__ import annotations

import itertools
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

import msgspec

from torpor import __version__
from torpor.errors import Interrupted, TorporError
from torpor.jobs import Ask, Grant, decode_job
from torpor.remote.engine import run
from torpor.remote.protocol import PROTOCOL, Line, grant_of, parse_reply

_lock = threading.Lock()
_asking = threading.Lock()
_numbers = itertools.count(1)
_encoder = msgspec.json.Encoder()


def say(line: Line) -> None:
    data = _encoder.encode(line) + b"\n"
    with _lock:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def ask(wish: Ask) -> Grant:
    """Ask the control side for a grant. One thread at a time."""
    with _asking:
        number = next(_numbers)
        say(Line(ask=wish, number=number))
        reply = parse_reply(sys.stdin.buffer.readline())
    return grant_of(reply, number)


def _interrupt(signum: int, _: FrameType | None) -> NoReturn:
    raise Interrupted(f"The job was stopped by {signal.Signals(signum).name}.")


def main() -> int:
    """Serve one job; the exit code is returned."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _interrupt)
    say(Line(torpor=__version__, protocol=PROTOCOL))
    try:
        job = decode_job(sys.stdin.buffer.readline())
        result = run(job, lambda event: say(Line(event=event)), ask)
    except TorporError as error:
        say(Line(failure=error.as_dict()))
        return error.exit_code
    say(Line(result=msgspec.Raw(msgspec.json.encode(result))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
