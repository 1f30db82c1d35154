"""Run a flow for another program: parameters on standard input, its events and its outcome on standard output.

    python -m flows.launch hibernate|wake|replicate|sweep --json-parameters -

    → {"machine": "local:box", "destroy_after": true}      one JSON object: the flow's parameters
    ← {"event": {…}}                                        any number: torpor.events.Event
    ← {"stage": {"name": …, "state": "running|completed|failed", "message": …}}
    ← {"result": {…}}                                       or {"failure": {"error": …, "what": …, "safe": …, "remedy": …}}

The exit code is that of the error's class, 130 after SIGINT or SIGTERM. Prefect's own log goes to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from importlib import import_module
from types import FrameType
from typing import Any, Self

import msgspec

from flows import server
from torpor.errors import Interrupted, TorporError, UsageError
from torpor.settings import load

HEARTBEAT = "30"  # seconds; deployments/automations.yaml takes a run that is silent for 90 for crashed
FLOWS = ("hibernate", "wake", "replicate", "sweep")

_lock = threading.Lock()


def say(kind: str, what: object) -> None:
    """One line of output."""
    data = msgspec.json.encode({kind: what}) + b"\n"
    with _lock:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


class Stops:
    """SIGINT and SIGTERM: the runs of this process are told to stop, and the main thread goes on waiting for them."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._runs = False
        self.finished = False  # there is an outcome to tell, which no signal takes back

    def __enter__(self) -> Self:
        self._before = {signum: signal.signal(signum, self._stop) for signum in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _stop(self, signum: int, _: FrameType | None) -> None:
        self.signal = signal.Signals(signum)
        if self.finished:
            return
        if not self._runs:
            raise self.error()
        from tasks.session import stop_all

        stop_all()

    def error(self) -> Interrupted:
        name = self.signal.name if self.signal is not None else "a signal"
        return Interrupted(f"The run was stopped by {name}.", safe="Nothing was destroyed.", remedy="Run it again: it goes on from there.")

    def run(self, work: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
        """Run a flow in a thread of its own, so that the signals stay ours: Prefect takes SIGTERM where it runs in the main thread."""
        outcome: list[dict[str, Any] | BaseException] = []

        def run() -> None:
            try:
                outcome.append(asyncio.run(work()))
            except BaseException as error:  # noqa: BLE001 - raised again on the main thread
                outcome.append(error)

        # In our context: a new thread would not see the settings that name the server.
        thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="flow")
        self._runs = True
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.2)  # with a timeout, so that handlers of signals get their turn
        finally:
            self._runs = False
        result = outcome[0]
        if isinstance(result, BaseException):
            raise result
        return result


def parameters() -> dict[str, Any]:
    """The JSON object on standard input. Raises `UsageError`."""
    try:
        found = json.loads(sys.stdin.buffer.read())
    except ValueError as error:
        raise UsageError(f"The parameters are no JSON: {error}.") from None
    if not isinstance(found, dict):
        raise UsageError("The parameters must be one JSON object.")
    return found


def run(flow_name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Run a flow, with a server if none is known, and say what happens; its result is returned."""
    with Stops() as stops, server.running(load().home):
        os.environ.setdefault("PREFECT_LOGGING_COLORS", "false")
        os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", HEARTBEAT)
        if named := server.named():
            stops.run(lambda: server.reach(named))
        from prefect.exceptions import ParameterTypeError, SignatureMismatchError

        from tasks.watch import StageState, watching

        flow: Callable[..., Coroutine[Any, Any, dict[str, Any]]] = getattr(import_module(f"flows.{flow_name}"), flow_name)
        with watching(lambda what: say("stage" if isinstance(what, StageState) else "event", what)):
            try:
                return stops.run(lambda: flow(**given))
            except (ParameterTypeError, SignatureMismatchError, TypeError) as error:
                why = " ".join(line.strip() for line in str(error).splitlines() if "signature" not in line)
                raise UsageError(f"The parameters do not fit the flow {flow_name}: {why}") from error
            finally:
                stops.finished = True


def answer(work: Callable[[], dict[str, Any]]) -> int:
    """Do the work and say its outcome; the exit code is returned."""
    try:
        result = work()
    except TorporError as error:
        say("failure", error.as_dict())
        return error.exit_code
    except Exception as error:
        say("failure", TorporError(f"{type(error).__name__}: {error}").as_dict())
        raise
    say("result", result)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.launch", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("flow", choices=FLOWS)
    parser.add_argument("--json-parameters", choices=["-"], required=True, help="read one JSON object from standard input")
    arguments = parser.parse_args()
    return answer(lambda: run(arguments.flow, parameters()))


if __name__ == "__main__":
    sys.exit(main())
