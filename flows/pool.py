"""A machine as a worker of the Prefect pool `gpu`: long jobs run as flow runs on it, seen task by task in Prefect; same engine, same
result as over SSH. Short ones, and whoever has no such machine, take the way over SSH.

For one job: a flow run is made in the machine's queue, then the tunnel and the proxy that its end is, then the host's worker is
started over the connection (flows.host_worker), takes the run and leaves. docs/gpu-pool.md has the whole story.
"""

from __future__ import annotations

import logging
import re
import secrets
import shlex
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from flows import enlist, host_bundle
from flows.on_host_words import Errand
from flows.proxy.scope import Scope
from flows.proxy.server import Proxy
from tasks.session import Session
from torpor.control.home import Home
from torpor.errors import Interrupted, MachineError, TorporError, UsageError
from torpor.events import Event, Listener
from torpor.jobs import Granter, Job, RestoreJob, Result, SnapshotJob, encode, name_of
from torpor.remote.host import Addressed, Host, Stoppable
from torpor.remote.jobsocket import STOP
from torpor.remote.talk import End, Talk
from torpor.ssh.base import Channel, Dropped, Shell

if TYPE_CHECKING:
    from torpor.remote.gateway_store import Tunnel

MODULE = "flows.host_worker"
LEAVING = 90.0  # seconds for the worker to leave after the job's last line

logger = logging.getLogger("prefect.torpor.pool")


def enter(session: Session) -> None:
    """The session's jobs go by the pool from now on: its machine is made ready for that. Raises `UsageError` for this computer."""
    place, settings = session.place, session.repository.settings
    if place.far is None:
        raise UsageError(
            f"{place.address or 'A folder'} is on this computer, and the pool {enlist.POOL} is for machines reached over SSH.",
            safe="Nothing was started.",
            remedy="Choose the runner ssh, which runs the engine here.",
        )
    far = place.far
    python = tuple(shlex.split(settings.pool_python)) or host_bundle.bring(far, Home(settings.home).bundles, session.hear_here)
    session.work_through(GpuPool(far.shell, far.tunnel(kept=False), python, queue_of(place.address), far))


def queue_of(address: str) -> str:
    """The name of a machine's queue, such as `vast-123`: Prefect has no slashes in names."""
    return re.sub(r"[^A-Za-z0-9.@-]+", "-", address).strip("-")[:100]


class GpuPool:
    """A host. `python`: how the host starts a Python that has torpor, its flows and Prefect; `queue`: the machine's, by its name;
    `over`: the way for short jobs."""

    def __init__(self, shell: Shell, tunnel: Tunnel, python: Sequence[str], queue: str, over: Host) -> None:
        self._shell = shell
        self._tunnel = tunnel
        self._command = shlex.join([*python, "-m", MODULE])
        self._queue = queue
        self._over = over
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._talking: Talk | None = None
        self._stops = 0

    @property
    def address(self) -> str:
        return self._over.address if isinstance(self._over, Addressed) else ""

    def forget(self, name: str) -> None:
        """A job that was begun over SSH: the pool's own end with their connection."""
        if isinstance(self._over, Addressed):
            self._over.forget(name)

    def stop(self) -> None:
        """The job finishes what it has in hand; a second call ends the worker."""
        with self._lock:
            channel, talk = self._channel, self._talking
            self._stops += 1
            first = self._stops == 1
        if channel is None or talk is None:
            if isinstance(self._over, Stoppable):
                self._over.stop()
        elif first:
            talk.send(STOP)
        else:
            channel.close()

    def run(self, job: Job, listen: Listener, ask: Granter | None = None) -> Result:
        if not isinstance(job, SnapshotJob | RestoreJob):
            return self._over.run(job, listen, ask)
        self._stops = 0
        name = name_of(job) or f"{job.snapshot}-{secrets.token_hex(8)}"
        api, password = server()
        scope = enlist.enlist(self._queue, name)
        end: End | None = None
        try:
            with Proxy(api, scope, password=password, refused=_refused) as proxy, self._tunnel(proxy.port) as port:
                errand = Errand(f"http://127.0.0.1:{port()}/api", proxy.password, scope.pool, scope.queue, scope.worker, name)
                end = self._talk(errand, job, scope, listen, ask)
        finally:
            done = end is not None and end.result is not None
            enlist.settle(scope.run, "It delivered its result, and its worker is gone." if done else "The host's worker is gone.")
        return end.value()

    def _talk(self, errand: Errand, job: Job, scope: Scope, listen: Listener, ask: Granter | None) -> End:
        """One connection: the job there, events and questions here, the result; until the worker has left."""
        channel = self._shell.open(self._command)
        talk = Talk(channel)
        try:
            talk.greeting()
            talk.send(msgspec.json.encode(errand))
            talk.send(encode(job))
            self._begin(channel, talk)
            listen(Event(kind="note", at=0.0, text=f"The job runs on the host as flow run {scope.run} of the pool {scope.pool}."))
            end = talk.listen(listen, ask, lambda _: True)
            if end is not None:
                with suppress(TorporError):  # the result is here; how its flow run ended is settled afterwards
                    channel.wait(LEAVING)
                return end
        finally:
            self._begin(None, None)
            channel.close()
        if self._stops:
            return End(failure=Interrupted("The job on the host was ended.", safe="What reached the store is kept."))
        raise Dropped("The connection to the host's worker broke.", safe="What reached the store is kept.", remedy="Run it again.")

    def _begin(self, channel: Channel | None, talk: Talk | None) -> None:
        with self._lock:
            self._channel, self._talking = channel, talk
            stopped = self._stops
        if talk is not None and stopped:  # while the worker started
            talk.send(STOP)


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


def _refused(what: str) -> None:
    logger.warning("A host was refused: %s", what)
