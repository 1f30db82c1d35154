"""Runs a Prefect flow in a process of its own and listens to it: torpor itself never imports Prefect.

    python -m flows.launch NAME --json-parameters -

    → {"machine": "local:box", …}           the flow's parameters, one JSON object
    ← {"event": {…}}                        any number: torpor.events.Event
    ← {"stage": {"name": …, "state": "running|completed|failed", "message": …}}
    ← {"result": {…}}                       or {"failure": {"error": …, "what": …, "safe": …, "remedy": …}}

The exit code is the error's class. Standard error is Prefect's own log, shown with -v.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import IO, Any

import msgspec

from torpor.cli import stop
from torpor.cli.session import Session
from torpor.errors import HostFailed, Interrupted, MissingDependency, from_dict
from torpor.events import Event, Listener

INSTALL = 'pip install "prefect==3.8.8" "fastapi>=0.139,<0.151"'
_KEPT = 20  # lines of standard error that are shown when a flow ends without a word
_NEEDED = {
    "flows": "The flows are not installed here: they are in a checkout of torpor, not in its wheel.",
    "prefect": "Prefect is not installed here, and {} is a Prefect flow.",
}


def check_installed(what: str) -> None:
    """Raise `MissingDependency`, with the line that installs it, unless this interpreter can run flows."""
    for module, text in _NEEDED.items():
        if find_spec(module) is None:
            remedy = f"Run: {INSTALL}" if module == "prefect" else "In a checkout of torpor, run: ./dev setup"
            raise MissingDependency(text.format(what), safe="Nothing was changed.", remedy=remedy)


def run(session: Session, module: str, arguments: Sequence[str], parameters: Mapping[str, object]) -> dict[str, Any]:
    """Run `python -m module arguments…` and return its result. Raises what the flow failed with.

    A first Ctrl-C or SIGTERM is passed on, and the flow is waited for; a second ends this process and the flow.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=session.environment, start_new_session=True,
    )  # fmt: skip
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise HostFailed("The flow has no streams.")
    stop.groups.add(process.pid)
    log: deque[str] = deque(maxlen=_KEPT)
    reader = threading.Thread(target=_read_log, args=(process.stderr, log, session), name="log", daemon=True)
    reader.start()
    outcomes: list[dict[str, Any]] = []  # one, once it was said: from then on nothing takes it back
    try:
        with session.listener() as listen:
            _send(process.stdin, parameters)
            lines = _Lines(process.stdout, session, listen, outcomes)
            lines.start()
            try:
                lines.end()
            except Interrupted as error:
                if not outcomes:
                    session.note("Stopping; the flow ends what it has in hand.")
                    process.send_signal(signal.SIGTERM)
                lines.end()
                outcomes = outcomes or [{"failure": error.as_dict()}]
    except Interrupted:
        _kill(process)
        if not outcomes:
            raise
    except BaseException:
        _kill(process)
        raise
    finally:
        process.stdout.close()
        code = process.wait()
        stop.groups.discard(process.pid)
    reader.join(timeout=5)
    if not outcomes:
        for line in log:
            print(line, file=sys.stderr)
        raise HostFailed(
            f"The flow ended without a result (exit code {code}).",
            safe="What reached the store is kept; a machine is destroyed only on proof.",
            remedy="Read its last lines above, then run the command again.",
        )
    outcome = outcomes[-1]
    if "failure" in outcome:
        raise from_dict(outcome["failure"])
    result: dict[str, Any] = outcome["result"]
    return result


def _send(stream: IO[bytes], parameters: Mapping[str, object]) -> None:
    try:
        stream.write(json.dumps(parameters).encode() + b"\n")
        stream.close()
    except BrokenPipeError:
        return  # it ended early: what it said before tells more


def _listen(stream: IO[bytes], session: Session, listen: Listener, outcomes: list[dict[str, Any]]) -> None:
    """Read lines to the end; outcomes among them are added."""
    for text in stream:
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict):
            session.detail(text.decode(errors="backslashreplace").rstrip())
        elif "event" in line:
            listen(msgspec.convert(line["event"], Event))
        elif "stage" in line:
            _stage(session, line["stage"])
        elif "result" in line or "failure" in line:
            outcomes.append(line)


class _Lines(threading.Thread):
    """Listens beside the main thread, where a signal could take away a line that was read and not yet noted."""

    def __init__(self, *given: Any) -> None:
        super().__init__(name="lines", daemon=True)
        self._given = given
        self._failed: BaseException | None = None
        self._over = threading.Event()  # a `join` that a signal broke off does not wait again

    def run(self) -> None:
        try:
            _listen(*self._given)
        except BaseException as error:  # noqa: BLE001 - raised by `end`
            self._failed = error
        finally:
            self._over.set()

    def end(self) -> None:
        """Wait for the last line."""
        self._over.wait()
        if self._failed is not None:
            raise self._failed


def _stage(session: Session, stage: Mapping[str, str]) -> None:
    state, message = stage.get("state", ""), stage.get("message") or ""
    if state == "failed" or (message and state == "completed"):
        session.note(f"{stage.get('name', '')} {state}" + (f": {message}" if message else ""))
    else:
        session.detail(f"{stage.get('name', '')} {state}" + (f": {message}" if message else ""))


def _read_log(stream: IO[bytes], log: deque[str], session: Session) -> None:
    with stream:
        for text in stream:
            line = text.decode(errors="backslashreplace").rstrip()
            log.append(line)
            session.detail(line)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def chosen(parameters: Mapping[str, object]) -> dict[str, object]:
    """Only what was given: the rest is the flow's to decide."""
    return {name: value for name, value in parameters.items() if value not in (None, [], {})}
