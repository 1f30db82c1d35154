"""An engine on another machine: connected over SSH, put there when it is first needed, and its jobs outlive the connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import msgspec

from torpor.clock import SYSTEM, Clock
from torpor.control.home import Home
from torpor.control.places import Ready
from torpor.errors import HostFailed
from torpor.events import Event, Listener, ignore
from torpor.jobs import Granter, Job, Result
from torpor.machines.base import Access
from torpor.remote.bootstrap import Engine, bootstrap
from torpor.remote.gateway_store import serving
from torpor.remote.lasting import LastingHost
from torpor.settings import Settings
from torpor.ssh.base import Shell, Target
from torpor.storage.base import Store


class Far:
    """Runs jobs on the machine at `access.ssh`. `address`: which machine it is, for what is kept of its jobs; `rental` as in its status.

    The first job, or `prepare`, connects and bootstraps; a `state` of a job that is below the host's home becomes absolute.
    """

    def __init__(self, settings: Settings, access: Access, address: str, rental: str, clock: Clock = SYSTEM) -> None:
        if access.ssh is None:
            raise HostFailed(f"{address} has no address to reach it at.", safe="Nothing was changed.")
        self.address = address
        self._settings = settings
        self._access = access
        self._target: Target = access.ssh
        self._rental = rental
        self._clock = clock
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._shell: Shell | None = None
        self._host: LastingHost | None = None

    @property
    def shell(self) -> Shell:
        with self._lock:
            if self._shell is None:
                from torpor.ssh.connect import shell

                home = Home(self._settings.home)
                self._shell = shell(self._target, home.machines, self._settings.access, self._clock)
            return self._shell

    def prepare(self, listen: Listener = ignore) -> Ready:
        """Connect, and put the engine there unless it is. Raises what `bootstrap` raises."""
        shell = self.shell
        with self._lock:
            engine = self._engine
            if engine is None:
                cache = Home(self._settings.home).bundles
                state = self._access.state.decode(errors="surrogateescape")
                engine = bootstrap(shell, cache, listen, state=state, rental=self._rental, with_gpu=self._settings.gpu_install)
                if self._rental and engine.facts.rental not in ("", self._rental):
                    raise HostFailed(
                        f"The host says that it is rental {engine.facts.rental[:8]}, and {self.address} is {self._rental[:8]}.",
                        safe="Nothing was changed.",
                        remedy=f"If it is a clone of another machine, remove {state} in its home folder and try again.",
                    )
                self._engine = engine
                where = self._absolute(self._access.state, engine)
                self._host = LastingHost(shell, engine.command[:-1], where, self.address, clock=self._clock)
        if engine.note:
            listen(Event(kind="note", at=0.0, level="warning", text=engine.note))
        python = ".".join(map(str, engine.facts.python((3, 13)).version))
        sent = f"{engine.sent_bytes / 1e6:.1f} MB sent" if engine.fresh else "it was there"
        return Ready(f"engine ready on Python {python}, {sent}, {engine.seconds:.1f} s", engine.seconds)

    @property
    def engine(self) -> Engine:
        """What was put there. Raises `HostFailed` before `prepare`."""
        if self._engine is None:
            raise HostFailed(f"{self.address} is not ready.")
        return self._engine

    @property
    def state(self) -> bytes:
        """The host's folder for records; absolute once the host was prepared."""
        return self._access.state if self._engine is None else self._absolute(self._access.state, self._engine)

    def _absolute(self, state: bytes, engine: Engine) -> bytes:
        return state if state.startswith(b"/") else engine.facts.home.encode(errors="surrogateescape") + b"/" + state

    def _ready(self, listen: Listener) -> LastingHost:
        self.prepare(listen)
        if self._host is None:
            raise HostFailed(f"{self.address} is not ready.")
        return self._host

    def run(self, job: Job, listen: Listener, ask: Granter | None = None) -> Result:
        host = self._ready(listen)
        engine = self._engine
        if engine is not None:
            job = msgspec.structs.replace(job, state=self._absolute(job.state, engine))
        return host.run(job, listen, ask)

    def attach(self, name: str, listen: Listener, ask: Granter | None = None) -> Result | None:
        return self._ready(listen).attach(name, listen, ask)

    def forget(self, name: str) -> None:
        self._ready(ignore).forget(name)

    def stop(self) -> None:
        if self._host is not None:
            self._host.stop()

    @contextmanager
    def reaching(self) -> Iterator[Callable[[Store], Store]]:
        """Makes stores such as this host can reach: a folder of this computer is served through a tunnel while the block runs."""
        with serving(self.tunnel(), self._clock) as reach:
            yield reach

    def tunnel(self, *, kept: bool = True) -> Callable[[int], AbstractContextManager[Callable[[], int]]]:
        """What opens a tunnel from the host to a port of ours. `kept`: at the port where its store is found; else at any."""
        from torpor.ssh.tunnel import reverse

        port = _port(self._rental) if kept else 0
        return reverse(self._target, Home(self._settings.home).machines, self._settings.access, port)


def _port(rental: str) -> int:
    """The port of the host's loopback where its store is found: the same for whoever takes up a job that another process began, since the
    job knows no other. Below those that systems give out by themselves."""
    return 20_000 + int(rental[:8], 16) % 12_000 if rental else 0
