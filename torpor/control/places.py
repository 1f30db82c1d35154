"""Where a workspace is: paths of this computer, or a machine. The same words everywhere: `PATH …` or `local:NAME`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from torpor.clock import SYSTEM, Clock
from torpor.control.home import Home
from torpor.control.repository import Repository
from torpor.errors import UsageError
from torpor.events import Listener, ignore
from torpor.jobs import Scope
from torpor.machines.table import is_machine, open_machine
from torpor.remote.host import Host, InProcess, Subprocess
from torpor.settings import Settings

if TYPE_CHECKING:
    from torpor.control.far import Far
    from torpor.machines.base import Ground, Machine, Traits
    from torpor.ssh.base import Shell


class Ready(msgspec.Struct, frozen=True):
    """A machine that can be given jobs; `seconds` that it took to make it so."""

    text: str
    seconds: float


class Place(msgspec.Struct, frozen=True):
    """A workspace and the way to run jobs on it. `address` names the machine, or is empty for paths; `far` is its host, if that is
    another computer. `leave`: folders of torpor's own, which no snapshot takes along."""

    host: Host
    roots: list[bytes]
    state: bytes
    address: str = ""
    machine: Machine | None = None
    far: Far | None = None
    leave: list[bytes] = []

    def scope(self, excludes: Sequence[str] = (), *, default_excludes: bool = True, one_file_system: bool = True) -> Scope:
        return Scope(
            roots=self.roots, excludes=list(excludes), default_excludes=default_excludes, one_file_system=one_file_system, leave=self.leave
        )  # fmt: skip

    @property
    def traits(self) -> Traits | None:
        """What is true of the kind of machine; None for paths of this computer."""
        return None if self.machine is None else self.machine.traits

    @property
    def shell(self) -> Shell:
        """Runs commands where the workspace is."""
        if self.far is not None:
            return self.far.shell
        from torpor.ssh.local import LocalShell

        return LocalShell()

    def prepare(self, listen: Listener = ignore) -> Ready:
        """Make the machine ready for jobs, if it is another than this computer."""
        return Ready("on this computer", 0.0) if self.far is None else self.far.prepare(listen)

    @contextmanager
    def reached(self, repository: Repository) -> Iterator[Repository]:
        """The repository, with stores whose grants the workspace's machine can use."""
        if self.far is None:
            yield repository
            return
        with self.far.reaching() as reach:
            yield msgspec.structs.replace(repository, store=reach(repository.store), reach=reach)


def ground(settings: Settings, clock: Clock = SYSTEM) -> Ground:
    """What machines stand on here."""
    from torpor.machines.base import Ground

    return Ground(Home(settings.home).machines, settings.access, clock)


def of_sources(settings: Settings, sources: Sequence[str]) -> Place:
    """The place that SOURCE arguments name: one machine, or paths of this computer. Raises `UsageError`, `MachineError`."""
    machines = [source for source in sources if is_machine(source)]
    if not sources:
        raise UsageError("No source was given.", remedy="Name a folder, or a machine such as local:NAME.")
    if machines and len(sources) > 1:
        raise UsageError("A machine is a source by itself.", remedy="Name one machine, or one or several paths.")
    if machines:
        return of_machine(settings, machines[0], own_process=False)
    roots = [os.path.abspath(os.fsencode(source)) for source in sources]
    if len(set(roots)) != len(roots):
        raise UsageError("A source is named twice.")
    return Place(InProcess(), roots, Home(settings.home).host_state, leave=_own(settings))


def _own(settings: Settings) -> list[bytes]:
    """The home, and the folders of stores that are folders: each snapshot would hold those before it."""
    from torpor.storage.urls import folder_of

    stores = [folder_of(url) for url in (settings.storage, *settings.copies)]
    return [os.fsencode(path) for path in (str(settings.home), settings.cache, *stores) if path]


def of_machine(settings: Settings, address: str, *, own_process: bool = True) -> Place:
    """A running machine. With `own_process`, its engine runs in a process that holds none of this one's secrets."""
    machine = open_machine(address, ground(settings))
    access = machine.access()
    if access.ssh is not None:
        from torpor.control.far import Far

        far = Far(settings, access, machine.address, machine.status().rental)
        return Place(far, access.roots, access.state, machine.address, machine, far)
    host = Subprocess(access.command) if own_process or access.command else InProcess()
    return Place(host, access.roots, access.state, machine.address, machine, leave=_own(settings))


def of_target(settings: Settings, target: str, *, create: bool = True) -> Place:
    """Where a restore goes: a path of this computer, or a machine, which with `create` is made if it is not there."""
    if is_machine(target):
        if create:
            open_machine(target, ground(settings)).create()
        return of_machine(settings, target, own_process=False)
    return Place(InProcess(), [os.path.abspath(os.fsencode(target))], Home(settings.home).host_state)
