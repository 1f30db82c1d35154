"""A machine as a worker of the Prefect pool `gpu`: long jobs run as flow runs on it, seen task by task in Prefect; same engine, same
result as over SSH. Short ones, and whoever has no such machine, take the way over SSH.

For one job: a flow run is made in the machine's queue, then the tunnel and the proxy that its end is, then the host's worker is
started over the connection (flows.host_worker), takes the run and leaves. docs/gpu-pool.md has the whole story.
"""

from __future__ import annotations

import logging
import shlex
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress

import msgspec

from flows import enlist
from flows.on_host_words import Errand
from flows.proxy.scope import Scope
from flows.proxy.server import Proxy
from torpor import __version__
from torpor.errors import HostFailed, Interrupted, MachineError, TorporError, UsageError, from_dict
from torpor.events import Event, Listener
from torpor.jobs import Granter, Job, Result, decode_result, encode, name_of
from torpor.remote.host import Host
from torpor.remote.jobsocket import STOP
from torpor.remote.protocol import LINE_MAX, Line, Reply, parse
from torpor.ssh.base import Channel, Shell

MODULE = "flows.host_worker"
LEAVING = 90.0  # seconds for the worker to leave after the job's last line

Tunnel = Callable[[int], AbstractContextManager[int]]  # a port of this computer → the host's port that leads there

logger = logging.getLogger("prefect.torpor.pool")


class GpuPool:
    """A host. `python`: how the host starts a Python that has torpor, its flows and Prefect; `queue`: the machine's, by its name;
    `over`: the way for short jobs."""

    def __init__(self, shell: Shell, tunnel: Tunnel, python: Sequence[str], queue: str, over: Host) -> None:
        self._shell = shell
        self._tunnel = tunnel
        self._command = shlex.join([*python, "-m", MODULE])
        self._queue = queue
        self._over = over
        self._channel: Channel | None = None
        self._stops = 0
        self._sending = threading.Lock()

    def stop(self) -> None:
        """The job finishes what it has in hand; a second call ends the worker."""
        channel = self._channel
        if channel is None:
            getattr(self._over, "stop", lambda: None)()
            return
        self._stops += 1
        if self._stops == 1:
            self._send(channel, STOP)
        else:
            channel.close()

    def run(self, job: Job, listen: Listener, ask: Granter | None = None) -> Result:
        name = name_of(job)
        if not name:
            return self._over.run(job, listen, ask)
        api, password = server()
        scope = enlist.enlist(self._queue, name)
        end: Result | TorporError | None = None
        try:
            with Proxy(api, scope, password=password, refused=_refused) as proxy, self._tunnel(proxy.port) as port:
                api = f"http://127.0.0.1:{port}/api"
                errand = Errand(api, proxy.password, scope.pool, scope.queue, scope.worker, name)
                end = self._talk(errand, job, scope, listen, ask)
        finally:
            why = "The host's worker is gone." if end is None or isinstance(end, TorporError) else "It delivered its result."
            enlist.settle(scope.run, why)
        if isinstance(end, TorporError):
            raise end
        return end

    def _talk(self, errand: Errand, job: Job, scope: Scope, listen: Listener, ask: Granter | None) -> Result | TorporError:
        """One connection: the job there, events and questions here, the result; until the worker has left."""
        channel = self._channel = self._shell.open(self._command)
        self._stops = 0
        try:
            _greeting(channel)
            self._send(channel, msgspec.json.encode(errand) + b"\n")
            self._send(channel, encode(job) + b"\n")
            listen(Event(kind="note", at=0.0, text=f"The job runs on the host as flow run {scope.run} of the pool {scope.pool}."))
            end = self._listen(channel, listen, ask)
            with suppress(TorporError):  # the result is here; how its flow run ended is settled afterwards
                channel.wait(LEAVING)
            return end
        finally:
            self._channel = None
            channel.close()

    def _listen(self, channel: Channel, listen: Listener, ask: Granter | None) -> Result | TorporError:
        while (text := channel.out.readline(LINE_MAX)).endswith(b"\n"):
            line = parse(text)
            if line.event is not None:
                listen(line.event)
            elif line.ask is not None:
                self._send(channel, _answer(line, ask))
            elif line.failure is not None:
                return from_dict(line.failure)
            elif bytes(line.result):
                return decode_result(bytes(line.result))
        if self._stops:
            return Interrupted("The job on the host was ended.", safe="What reached the store is kept.", remedy="Run it again.")
        return HostFailed(
            "The connection to the host's worker ended without a result.",
            safe="What reached the store is kept; nothing was destroyed.",
            remedy="Run the command again: it goes on from there.",
        )

    def _send(self, channel: Channel, data: bytes) -> None:
        """If the connection is gone, reading tells."""
        with self._sending, suppress(OSError, ValueError, HostFailed):
            channel.stdin.write(data)
            channel.stdin.flush()


def server() -> tuple[str, str]:
    """The Prefect server of this process: its URL, and the password for it. Raises `UsageError` for Prefect Cloud, `MachineError`."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    url = settings.api.url
    if not url:
        raise MachineError("No Prefect server is known here.", safe="Nothing was started.", remedy="Set PREFECT_API_URL.")
    if settings.api.key is not None:
        raise UsageError(
            "The pool needs a Prefect server of one's own: Prefect Cloud has other ways to log in, and roles to give hosts.",
            safe="Nothing was started.",
            remedy="Choose the runner ssh.",
        )
    password = settings.api.auth_string
    return url, password.get_secret_value() if password is not None else ""


def _greeting(channel: Channel) -> None:
    try:
        line = parse(channel.out.readline(LINE_MAX))
    except HostFailed:
        line = Line()
    if line.torpor != __version__:
        raise HostFailed(
            f"The host answers as torpor {line.torpor or 'nothing known'}; this is {__version__}.",
            safe="Nothing was started.",
            remedy="Prepare the host again, with Prefect; or choose the runner ssh, which needs none there.",
        )


def _answer(line: Line, ask: Granter | None) -> bytes:
    try:
        if ask is None or line.ask is None:
            raise HostFailed("This job was given all that it may have.")
        reply = Reply(grant=ask(line.ask))
    except TorporError as error:
        reply = Reply(failure=error.as_dict())
    return msgspec.json.encode(reply) + b"\n"


def _refused(what: str) -> None:
    logger.warning("A host was refused: %s", what)
