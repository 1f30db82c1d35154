"""The control side's end: a host is something that runs jobs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

import msgspec

from torpor import __version__
from torpor.errors import HostFailed, Interrupted, TorporError, from_dict
from torpor.events import Listener
from torpor.jobs import Ask, Granter, Job, Result, decode_result, encode
from torpor.remote import engine
from torpor.remote.protocol import LINE_MAX, PROTOCOL, Line, Reply, parse
from torpor.ssh.base import Dropped, HostKeyMismatch, Unreachable

if TYPE_CHECKING:
    import subprocess

R = TypeVar("R", bound=Result)


class Host(Protocol):
    """Runs one job at a time; events go to the listener, and what it asks for to `ask`, on the calling thread or another."""

    def run(self, job: Job, listen: Listener, ask: Granter | None = None) -> Result: ...


@runtime_checkable
class Stoppable(Protocol):
    """A host whose job can be stopped from outside, from any thread: it finishes what it has in hand; a second call ends it at once."""

    def stop(self) -> None: ...


class TakenOver(HostFailed):
    """Another connection follows the job now: it goes on, and its result goes there."""

    retryable = False


@runtime_checkable
class Addressed(Protocol):
    """A host of a machine where jobs of other connections may run."""

    @property
    def address(self) -> str:
        """Which machine this is, in the control side's own words: what it keeps of a job is for this address alone. Empty: no other."""

    def forget(self, name: str) -> None:
        """End a job that still runs, and delete what the host keeps of it."""


@runtime_checkable
class Lasting(Addressed, Host, Stoppable, Protocol):
    """A host where a job outlives the connection and the control side. It is found again by `jobs.name_of(job)`.

    What `run` and `attach` raise of `GOES_ON` says nothing of the job: it goes on. With anything else it has ended, or the next run ends
    it: what stops this side (`Interrupted`, an error out of the listener) stops the job too.
    """

    def attach(self, name: str, listen: Listener, ask: Granter | None = None) -> Result | None:
        """The result of a job that another process began: waited for if it runs. None if the host knows of none by that name, or of
        one that had failed before anybody asked.

        Raises what the job fails with meanwhile.
        """


GOES_ON = (Dropped, Unreachable, HostKeyMismatch, TakenOver)  # the connection is lost, and the job is not


class InProcess:
    """The engine in this very process: for one's own computer, where start-up time counts."""

    def run(self, job: Job, listen: Listener, ask: Granter | None = None) -> Result:
        return engine.run(job, listen, ask)


class Subprocess:
    """The engine in a process of its own, over its standard streams: the same conversation as over SSH.

    `environment` is the whole environment of the engine; it holds no credential, whatever this process's own has.
    """

    def __init__(self, command: Sequence[str] = (), environment: dict[str, str] | None = None) -> None:
        self._command = list(command) or [sys.executable, "-m", "torpor.remote.serve"]
        self._environment = clean_environment() if environment is None else environment
        self.process: subprocess.Popen[bytes] | None = None
        self._stopped: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        process = self.process
        if process is None or process.returncode is not None:
            return
        if process is self._stopped:
            process.kill()
        else:
            self._stopped = process
            process.terminate()

    def run(self, job: Job, listen: Listener, ask: Granter | None = None) -> Result:
        import subprocess

        process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environment, start_new_session=True
        )
        self.process = process
        if process.stdin is None or process.stdout is None:
            raise HostFailed("The host's engine has no streams.")
        try:
            self._shake_hands(process.stdout.readline(LINE_MAX))
            with suppress(BrokenPipeError):  # it ended early: what it said before comes next
                process.stdin.write(encode(job) + b"\n")
                process.stdin.flush()
            while text := process.stdout.readline(LINE_MAX):
                line = parse(text)
                if line.event is not None:
                    listen(line.event)
                elif line.ask is not None:
                    with suppress(BrokenPipeError):  # it ended meanwhile; why comes next
                        process.stdin.write(answer(line.ask, line.number, ask) + b"\n")
                        process.stdin.flush()
                elif line.failure is not None:
                    raise from_dict(line.failure)
                elif bytes(line.result):
                    return decode_result(bytes(line.result))
            raise HostFailed(
                f"The host's engine ended without a result (exit code {process.wait()}).",
                safe="What reached the store is kept; nothing was destroyed.",
                remedy="Run the command again: it goes on from there.",
            )
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()
            if process.poll() is None:
                self._end(process)
            process.stdout.close()

    def _shake_hands(self, text: bytes) -> None:
        try:
            line = parse(text)
        except HostFailed:
            line = Line()
        check_version(line)

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        """Let it finish what it has in hand; end it if it does not."""
        import subprocess

        try:
            process.wait(timeout=1)
            return
        except subprocess.TimeoutExpired:
            process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answer(wish: Ask, number: int, ask: Granter | None) -> bytes:
    """The reply to a question, as JSON. What goes wrong here is the job's to judge: its grant may last a while yet."""
    try:
        if ask is None:
            raise HostFailed("This job was given all that it may have.")
        reply = Reply(grant=ask(wish), number=number)
    except Interrupted:
        raise  # somebody stops this process; the job is stopped then
    except TorporError as error:
        reply = Reply(failure=error.as_dict(), number=number)
    return msgspec.json.encode(reply)


def check_version(line: Line) -> None:
    """Raise `HostFailed` unless a greeting is of this very torpor."""
    if (line.torpor, line.protocol) != (__version__, PROTOCOL):
        raise HostFailed(
            f"The host answers as torpor {line.torpor or 'nothing known'}; this is {__version__}.",
            safe="Nothing was started.",
            remedy="Install the same version on the host.",
        )


_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")


def clean_environment() -> dict[str, str]:
    """This process's environment without anything that could be a secret."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
