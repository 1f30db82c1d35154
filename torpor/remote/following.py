"""A long job, followed over as many connections as it takes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from torpor.errors import HostFailed, Interrupted, TorporError
from torpor.events import Event, Listener, ignore
from torpor.jobs import Granter, Job, encode
from torpor.remote.host import GOES_ON
from torpor.remote.protocol import Line
from torpor.remote.talk import End, Talk
from torpor.ssh.base import Channel, Dropped, HostKeyUnknown, LoginRefused, Unreachable

if TYPE_CHECKING:
    from torpor.remote.lasting import LastingHost

_FINISH = 60.0  # seconds that a job which is stopped may take for what it has in hand
_TELLS = 5  # tries to stop a job whose host does not answer


class Unknown(Exception):
    """The host knows of no such job, or of one that had failed before anybody asked."""


class Following:
    """One job under `name`. Without `job` it is not begun: somebody else did that."""

    def __init__(self, host: LastingHost, name: str, job: Job | None, hear: Listener, ask: Granter | None) -> None:
        self._host = host
        self.name = name
        self._job = job
        self._hear = hear
        self._ask = ask
        self._patience = host.patience()
        self._line = 0  # the last one seen, of those that the host keeps
        self._asked = 0
        self._there = False  # whether the host has shown that it knows the job
        self._over = False
        self._stops = 0
        self._told = False  # whether the host knows of the stop
        self._channel: Channel | None = None

    def end(self) -> End:
        """Wait for the end. Raises `Unknown`, what is in `GOES_ON`, and what the listener or a signal raises: then the job is stopped."""
        try:
            return self._end()
        except (*GOES_ON, Unknown):
            raise
        except (Interrupted, KeyboardInterrupt):
            last = self._cancel()
            if last is not None and isinstance(last.failure, Interrupted):
                raise last.failure from None  # it tells what was kept
            raise
        except BaseException:
            self._cancel()
            raise

    def stop(self) -> None:
        """Ask the job to end; a second time, end it at once. Returns at once, in any thread."""
        self._stops += 1
        command = "stop" if self._stops == 1 else "kill"
        threading.Thread(target=self._tell, args=(command, _TELLS), name=f"{command}-job", daemon=True).start()

    def _end(self) -> End:
        while True:
            try:
                end = self._connect()
                if end is not None:
                    return end
                raise Dropped("The connection to the host broke.")
            except (Dropped, Unreachable, LoginRefused, HostKeyUnknown) as error:
                if self._over or not (self._there or isinstance(error, Dropped | Unreachable)):
                    raise
                if self._patience.is_first:
                    self._hear(Event(kind="note", at=0.0, level="warning", text=f"{error.what} The job goes on; trying again."))
                self._patience.lost(_goes_on(error))

    def _connect(self) -> End | None:
        if self._over:
            raise Dropped("It is not waited for any more.")
        channel = self._channel = self._host.open("detached", "attach", self.name, str(self._line + 1), f"{self._host.wait:g}")
        try:
            if self._over:
                raise Dropped("It is not waited for any more.")
            talk = Talk(channel)
            known = talk.greeting().job
            self._patience.connected()
            if self._stops and not self._told and known != "new":
                self._tell("stop", 1)
            if known == "new":
                if self._job is None:
                    raise Unknown
                if self._there:
                    raise _vanished()
                if self._stops:
                    raise Interrupted("The job was stopped before it began.", safe="Nothing was changed.")
                talk.send(encode(self._job))
            elif known == "died":
                return self._died()
            elif self._job is None and not self._there and known == "ended":
                return self._ended(talk)
            else:
                self._there = True
            return talk.listen(self._hear, self._ask, self._seen)
        finally:
            self._channel = None
            channel.close()

    def _seen(self, line: Line) -> bool:
        self._there = True
        if line.ask is not None:
            if line.number > self._asked:
                self._asked = line.number
                self._patience.heard()
        elif line.number:
            if line.number <= self._line:
                return False
            self._line = line.number
            self._patience.heard()
        return True

    def _died(self) -> End:
        if self._job is None and not self._there:
            raise Unknown
        if self._stops:
            return End(failure=Interrupted("The job was ended.", safe="What reached the store is kept.", remedy="Run it again."))
        return End(failure=died())

    def _ended(self, talk: Talk) -> End | None:
        """Of a job that had ended when it was asked for first, only a result is of use: after a failure it is done again."""
        end = talk.listen(self._hear, self._ask, self._seen)
        if end is not None and end.failure is not None:
            self._hear(Event(kind="note", at=0.0, text=f"The job before this one had failed: {end.failure.what} It is done again."))
            raise Unknown
        return end

    def _cancel(self) -> End | None:
        """Stop the job and wait for its end, a while; None if it could not be waited for. What is raised meanwhile ends the waiting."""
        self._stops += 1
        self._hear = ignore
        self._tell("stop", 2)  # before its questions are answered, or it might end well after all
        late = threading.Timer(_FINISH, self._give_up)
        late.daemon = True
        late.start()
        try:
            return self._end()
        except (TorporError, Unknown):
            return None
        finally:
            late.cancel()

    def _give_up(self) -> None:
        self._over = True
        channel = self._channel
        if channel is not None:
            channel.close()

    def _tell(self, command: str, tries: int) -> None:
        for _ in range(tries):
            try:
                self._host.command(command, self.name)
                self._told = True
                return
            except TorporError:  # the host does not answer, or the job is about to begin
                self._host.pause(1.0)


def died() -> HostFailed:
    return HostFailed(
        "The engine on the host is gone: it was killed, memory ran out, or the host started anew.",
        safe="What reached the store is kept; nothing was destroyed.",
        remedy="Run the command again: it goes on from there.",
    )


def _vanished() -> HostFailed:
    return HostFailed(
        "The host has forgotten the job.",
        safe="What reached the store is kept; nothing was destroyed.",
        remedy="Run the command again: it goes on from there.",
    )


def _goes_on(error: TorporError) -> Dropped:
    return Dropped(
        error.what,
        safe="The job on the host goes on as far as its requests to the store last; nothing was destroyed.",
        remedy="Run the same command again: it finds the job and follows it.",
    )
