"""One connection to a host's engine: the greeting, what it says, and the answers to what it asks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec

from torpor.errors import HostFailed, TorporError, from_dict
from torpor.events import Listener
from torpor.jobs import Granter, Result, decode_result
from torpor.remote.host import answer, check_version
from torpor.remote.plain import plain, plain_error, plain_result
from torpor.remote.protocol import LINE_MAX, Line, parse
from torpor.ssh.base import Channel, Dropped
from torpor.ssh.talk import closing

_BANNER = 100  # lines that a host's login may print before anything of ours
_GREETING = 180.0  # seconds; a cold start on a slow disk takes some
_EXIT = 10.0  # seconds for an exit status


class End(msgspec.Struct, frozen=True):
    """How a job ended: with a result, or with a failure that the host told. A failure of the connection is raised instead."""

    result: Result | None = None
    failure: TorporError | None = None

    def value(self) -> Result:
        if self.failure is not None:
            raise self.failure
        if self.result is None:
            raise HostFailed("The host's engine ended without a result.")
        return self.result


class Talk:
    """A channel on which `serve` or `detached attach` was started."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def greeting(self) -> Line:
        """Raises `Dropped` if the connection ends before it, `HostFailed` if the engine does not begin, or is another torpor's."""
        with closing(self._channel, _GREETING) as late:
            for _ in range(_BANNER):
                text = self._line()
                if not text.endswith(b"\n"):
                    break
                try:
                    line = parse(text)
                except HostFailed:
                    continue  # a host may greet whoever logs in, too
                if line.failure is not None:
                    raise plain_error(from_dict(line.failure))
                check_version(line)
                return line
        if late.is_set():
            raise Dropped(
                f"The engine on the host did not begin within {_GREETING:g} seconds.",
                safe="Nothing was started.",
                remedy="Look at the host's load and at its disk; then run the command again.",
            )
        code = self._channel.wait(_EXIT)
        if code == 0:
            raise Dropped("The host closed the connection.")
        raise HostFailed(
            f"The host's engine did not begin (exit code {code}).",
            safe="Nothing was started.",
            remedy="See whether torpor runs on the host; preparing the host again puts it there.",
        )

    def _line(self) -> bytes:
        """A line, or what there is of one where the connection ends, broken or closed by this side."""
        try:
            return self._channel.out.readline(LINE_MAX)
        except ValueError:
            return b""
        except OSError as error:
            raise Dropped(f"The connection to the host broke: {error.strerror or error}.") from None

    def send(self, data: bytes) -> None:
        """One line. If the connection is gone, reading tells."""
        with suppress(OSError, ValueError, Dropped):
            self._channel.stdin.write(data + b"\n")
            self._channel.stdin.flush()

    def listen(self, hear: Listener, ask: Granter | None, seen: Callable[[Line], bool]) -> End | None:
        """Until the job ends; None if the connection ends first. `seen` is shown each line, and says whether it is news."""
        while (text := self._line()).endswith(b"\n"):
            line = parse(text)
            if not seen(line):
                continue
            if line.event is not None:
                hear(plain(line.event))
            elif line.ask is not None:
                self.send(answer(line.ask, line.number, ask))
            elif line.failure is not None:
                return End(failure=plain_error(from_dict(line.failure)))
            elif bytes(line.result):
                return End(result=plain_result(decode_result(bytes(line.result))))
        return None
