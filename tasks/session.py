"""What the tasks of one run share: repository, machine, stages; and the one way to stop them all."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import msgspec

from tasks import watch
from tasks.board import Figures, StageBoard
from torpor.control.places import Place
from torpor.control.provision import Provisioned
from torpor.control.repository import Repository
from torpor.errors import Interrupted, MachineError
from torpor.events import Event
from torpor.machines.base import Machine
from torpor.remote.host import Host, Stoppable

Log = Callable[[str, str], Any]  # level, text

_live: weakref.WeakSet[Session] = weakref.WeakSet()


class Session:
    """Not a dataclass: Prefect looks for futures in those, and this holds keys."""

    def __init__(self, repository: Repository, log: Log, place: Place | None = None, name: str = "") -> None:
        self.repository = repository
        self.name = name
        self._log = log if not name else lambda level, text: log(level, f"{name}: {text}")
        self._place = place
        self.board = StageBoard()
        self.seen: dict[str, Figures] = {}
        self.made: Provisioned | None = None  # rented and not given up: set before `rent` looks whether the run was stopped
        self.writing = False  # whether something may have been written on the machine
        self._stopped = threading.Event()
        self._ending = False
        _live.add(self)

    def __repr__(self) -> str:
        return "Session(hidden)"

    def enter(self, place: Place) -> None:
        """Work on this place from now on."""
        self._place = place

    @property
    def place(self) -> Place:
        if self._place is None:
            raise MachineError("There is no machine yet.", safe="Nothing was changed.")
        return self._place

    def work_through(self, host: Host) -> None:
        """Run the jobs of this place by another way to it."""
        self._place = msgspec.structs.replace(self.place, host=host)

    @property
    def host(self) -> Host:
        return self.place.host

    def reached(self) -> AbstractContextManager[Repository]:
        """The repository, its store such as the machine can reach it."""
        return self.place.reached(self.repository)

    @property
    def machine(self) -> Machine:
        if self.place.machine is None:
            raise MachineError("This is a folder and no machine.", safe="Nothing was changed.")
        return self.place.machine

    def begin(self) -> StageBoard:
        """A board for the next job; what the one before showed is added to `seen`."""
        self.end()
        self.board = StageBoard()
        return self.board

    def end(self) -> dict[str, Figures]:
        """Every stage of every job so far: those of one name added up."""
        for name, figures in self.board.take().items():
            self.seen[name] = self.seen[name] + figures if name in self.seen else figures
        return self.seen

    def hear(self, event: Event) -> None:
        """The listener of jobs that run in the host's own process: that one is ended by a signal, and once."""
        self.board.listen(event)
        watch.tell(self._named(event))
        if event.kind == "note":
            self._log(event.level, event.text)
        if self._stopped.is_set():
            self._end_engine()

    def _named(self, event: Event) -> Event:
        """For those who watch several machines at once."""
        if not self.name:
            return event
        if event.kind == "note":
            return msgspec.structs.replace(event, text=f"{self.name}: {event.text}")
        return msgspec.structs.replace(event, stage=f"{self.name} {event.stage}") if event.stage else event

    def hear_here(self, event: Event) -> None:
        """The listener of work in this process: it is stopped by an error out of its listener."""
        self.check()
        self.hear(event)

    def note(self, text: str) -> None:
        """Say something to whoever reads the run's log or watches."""
        self.hear(Event(kind="note", at=0.0, text=text))

    def warn(self, text: str) -> None:
        self.hear(Event(kind="note", at=0.0, level="warning", text=text))

    def check(self) -> None:
        """Raise `Interrupted` if the run was stopped."""
        if not self._stopped.is_set():
            return
        if self._place is None:
            raise Interrupted("The run was stopped.", safe="No machine was kept.", remedy="Run it again.")
        raise Interrupted("The run was stopped.", safe="The machine was left running.", remedy="Run it again: it goes on from here.")

    def pause(self, seconds: float) -> None:
        """Wait, unless the run is stopped. Raises `Interrupted`."""
        self._stopped.wait(seconds)
        self.check()

    def stop(self) -> None:
        """Stop whatever runs, soon. The engine finishes what it has in hand; a second call ends it at once."""
        self._ending = self._ending and not self._stopped.is_set()
        self._stopped.set()
        self._end_engine()

    def _end_engine(self) -> None:
        host: object = self._place.host if self._place is not None else None
        if isinstance(host, Stoppable) and not self._ending:
            self._ending = True
            host.stop()

    @contextmanager
    def step(self, name: str = "") -> Iterator[None]:
        """One task's work. With a name, whoever watches is told that it runs, and if it failed."""
        self.check()
        if name:
            watch.tell(watch.StageState(name, "running"))
        try:
            yield
        except BaseException as error:
            if name:
                watch.tell(watch.StageState(name, "failed", getattr(error, "what", str(error))))
            raise


def stop_all() -> None:
    """Stop every run of this process: for a signal's handler."""
    for session in list(_live):
        session.stop()
