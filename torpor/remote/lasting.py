"""A host behind a shell: its long jobs outlive the connection, and the control side.

Short jobs go over a connection of their own and are done again if it breaks. Long ones (`jobs.name_of`) run in a process of the host's;
see `torpor.remote.detached`.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from torpor.clock import SYSTEM, Clock
from torpor.errors import HostFailed, Interrupted, TorporError, from_dict
from torpor.events import Listener
from torpor.format.untrusted import BROKEN
from torpor.jobs import Granter, Job, Result, encode, name_of
from torpor.remote.following import Following, Unknown
from torpor.remote.patience import Patience
from torpor.remote.plain import plain_error
from torpor.remote.protocol import Line
from torpor.remote.talk import End, Talk
from torpor.ssh.base import Channel, Dropped, Ran, Shell, Unreachable

PATIENCE = 1800.0  # seconds to get a connection back: as long as the job waits for one
WAIT = 1800.0  # seconds that a job waits with a question: a worker is started anew by then; after that the machine costs and does nothing
_EXIT = 10.0  # seconds for an exit status, once all was read
_FORGET = 180.0  # seconds; a job that is forgotten may have something in hand


class LastingHost:
    """Runs jobs by `shell`. One job at a time.

    `python`: the words that start Python with torpor on the host, or how to get them, which may prepare the host first; asked for once.
    `state`: the host's folder for records; below the home folder unless it begins with a slash. `address`: which machine this is, in the
    control side's own words. `patience`: seconds that a lost connection is tried again. `wait`: seconds that a job waits for an answer
    that it can't go on without.
    """

    def __init__(
        self,
        shell: Shell,
        python: Sequence[str] | Callable[[], Sequence[str]],
        state: bytes,
        address: str = "",
        *,
        patience: float = PATIENCE,
        wait: float = WAIT,
        clock: Clock = SYSTEM,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = address
        self.wait = wait
        self.pause = pause
        self._shell = shell
        self._python = python
        self._state = os.fsdecode(state)
        self._patience = patience
        self._clock = clock
        self._following: Following | None = None
        self._channel: Channel | None = None
        self._stopped = False
        self._halt = False  # a stop was asked for, and no job has ended by it
        self._reached = False
        self._ended: set[str] = set()  # jobs whose end was heard

    def run(self, job: Job, listen: Listener, ask: Granter | None = None) -> Result:
        name = name_of(job)
        if not name:
            return self._short(job, listen, ask).value()
        try:
            return self._follow(Following(self, name, job, listen, ask)).value()
        except Unknown:
            raise HostFailed("The host does not know the job that it was given.") from None

    def attach(self, name: str, listen: Listener, ask: Granter | None = None) -> Result | None:
        try:
            return self._follow(Following(self, name, None, listen, ask)).value()
        except Unknown:
            return None

    def forget(self, name: str) -> None:
        if name in self._ended:  # no Python has to start for that
            self._ended.discard(name)
            self._shell.run(shlex.join(["rm", "-rf", "--", os.path.join(self._state, "jobs", name)]))
        else:
            self.command("forget", name)

    def stop(self) -> None:
        """Between two jobs, the next one does not begin."""
        self._halt = True
        if self._following is not None:
            self._following.stop()
        elif (channel := self._channel) is not None:
            self._stopped = True
            channel.close()

    def open(self, module: str, *arguments: str) -> Channel:
        """Start a module of torpor.remote on the host."""
        channel = self._shell.open(self._words(module, arguments))
        self._reached = True
        return channel

    def command(self, command: str, name: str) -> None:
        """Let the host do something about a job, and wait until it is done. Raises `HostFailed`."""
        ran = self._shell.run(self._words("detached", (command, name)), seconds=_FORGET)
        if ran.code:
            raise _refused(ran)

    def patience(self) -> Patience:
        """A host that was never reached is not waited for."""
        return Patience(lambda: self._patience if self._reached else 0.0, self._clock, self.pause)

    def _words(self, module: str, arguments: Sequence[str]) -> str:
        if callable(self._python):
            self._python = tuple(self._python())
        if module == "detached":
            arguments = (arguments[0], self._state, *arguments[1:])
        return shlex.join([*self._python, "-m", f"torpor.remote.{module}", *arguments])

    def _follow(self, following: Following) -> End:
        self._following = following
        try:
            self._check_halt()
            end = following.end()
        except Interrupted:
            self._halt = False
            raise
        finally:
            self._following = None
        self._ended.add(following.name)
        if isinstance(end.failure, Interrupted):
            self._halt = False
        return end

    def _check_halt(self) -> None:
        if self._halt:
            self._halt = False
            raise Interrupted("The job was stopped before it began.", safe="Nothing was destroyed.")

    def _short(self, job: Job, listen: Listener, ask: Granter | None) -> End:
        patience = self.patience()
        self._stopped = False
        self._check_halt()
        while True:
            try:
                end = self._serve(job, listen, ask, patience)
                if self._stopped:
                    self._halt = False
                    raise Interrupted("The job was stopped.", safe="Nothing was destroyed.")
                if end is not None:
                    return end
                raise Dropped("The connection to the host broke.", safe="Nothing was destroyed.", remedy="Run the command again.")
            except (Dropped, Unreachable) as error:
                patience.lost(error)

    def _serve(self, job: Job, listen: Listener, ask: Granter | None, patience: Patience) -> End | None:
        channel = self._channel = self.open("serve")
        try:
            talk = Talk(channel)
            talk.greeting()
            patience.connected()
            talk.send(encode(job))
            end = talk.listen(listen, ask, lambda _: True)
            if end is None and not self._stopped:
                raise HostFailed(
                    f"The host's engine ended without a result (exit code {channel.wait(_EXIT)}).",
                    safe="Nothing was destroyed.",
                    remedy="Run the command again.",
                )
            return end
        finally:
            self._channel = None
            channel.close()


class LocalLasting(LastingHost):
    """The same on this computer. `state` is absolute."""

    def __init__(self, state: bytes, address: str = "", *, patience: float = PATIENCE, wait: float = WAIT) -> None:
        from torpor.remote.host import clean_environment
        from torpor.ssh.local import LocalShell

        super().__init__(LocalShell(clean_environment()), (sys.executable,), state, address, patience=patience, wait=wait)


def _refused(ran: Ran) -> TorporError:
    """What a command of `detached` said of its failure."""
    with suppress(*BROKEN):
        line = msgspec.json.decode(ran.out.splitlines()[-1] if ran.out else b"", type=Line)
        if line.failure is not None:
            return plain_error(from_dict(line.failure))
    return HostFailed(
        f"A command on the host failed (exit code {ran.code}).",
        safe="Nothing was destroyed.",
        remedy="See whether torpor runs on the host; preparing the host again puts it there.",
    )
