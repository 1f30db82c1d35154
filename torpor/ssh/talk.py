"""What all shells share: a command is fed, read and timed in the same way, wherever it runs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Protocol

from torpor.errors import HostFailed
from torpor.ssh.base import Channel, Overdue, Ran

PIECE = 1 << 18  # bytes of standard input in hand
MOST = 1 << 26  # bytes of standard output that are taken
TOLD = 1 << 16  # bytes of standard error that a channel keeps


class Endable(Channel, Protocol):
    """A channel as shells have it among themselves."""

    def end(self) -> None:
        """End the command itself, and its group of processes; then the channel is closed."""

    def told(self) -> bytes:
        """The last of its standard error; all of it once the command has ended."""


class Tail:
    """The last bytes of a stream. One thread adds."""

    def __init__(self, limit: int = TOLD) -> None:
        self._limit = limit
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        while self._size - len(self._pieces[0]) >= self._limit:
            self._size -= len(self._pieces.popleft())

    def value(self) -> bytes:
        return b"".join(tuple(self._pieces))[-self._limit :]


@contextmanager
def closing(channel: Channel, seconds: float) -> Iterator[threading.Event]:
    """A host that says nothing for so long is one whose connection broke: the channel is closed, and what is given is set."""
    late = threading.Event()

    def close() -> None:
        late.set()
        channel.close()

    timer = threading.Timer(seconds, close)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def pump(channel: Endable, stdin: bytes | IO[bytes], seconds: float, whom: str) -> Ran:
    """Feed a command, read what it says, wait for its end; all at once, so that neither side waits for the other.

    Raises `Overdue` after `seconds`; the command was ended then. What the reading of `stdin` raises ends it too, and is raised.
    """
    late = threading.Event()

    def stop() -> None:
        late.set()
        channel.end()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    feeder = _Feeder(channel, stdin)
    timer.start()
    feeder.start()
    try:
        out = bytearray()
        while piece := channel.out.read(PIECE):
            out += piece
            if len(out) > MOST:
                raise _endless(whom)
        code = channel.wait(seconds)
    except BaseException:
        channel.end()
        if late.is_set():
            raise _overdue(whom, seconds) from None
        if feeder.failure is not None:
            raise feeder.failure from None
        raise
    finally:
        timer.cancel()
        channel.close()
        feeder.join(5.0)  # longer only if whoever gives the input holds it up
        timer.join()
    if late.is_set():
        raise _overdue(whom, seconds)
    if feeder.failure is not None:
        raise feeder.failure
    return Ran(code, bytes(out), channel.told())


def _endless(whom: str) -> HostFailed:
    return HostFailed(
        f"A command on {whom} said more than {MOST >> 20} MiB, and was ended.",
        safe="What it had done until then stays.",
        remedy="Look at what the machine prints when a program starts.",
    )


def _overdue(whom: str, seconds: float) -> Overdue:
    return Overdue(
        f"A command on {whom} took longer than {seconds:g} seconds, and was ended.",
        safe="What it had done until then stays.",
        remedy="Look whether the machine is overloaded, then run it again.",
    )


class _Feeder(threading.Thread):
    """Writes standard input, then closes it. A command that does not want it all is no failure."""

    def __init__(self, channel: Endable, stdin: bytes | IO[bytes]) -> None:
        super().__init__(name="torpor-stdin", daemon=True)
        self._channel = channel
        self._stdin = stdin
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            for piece in _pieces(self._stdin):
                try:
                    self._channel.stdin.write(piece)
                    self._channel.stdin.flush()
                except (OSError, ValueError):  # it has ended, or was closed
                    break
        except BaseException as error:  # noqa: BLE001 - raised by `pump`
            self.failure = error
            self._channel.end()
        finally:
            with suppress(OSError, ValueError):
                self._channel.stdin.close()


def _pieces(stdin: bytes | IO[bytes]) -> Iterator[bytes | memoryview]:
    if isinstance(stdin, bytes):
        view = memoryview(stdin)
        for start in range(0, len(view), PIECE):
            yield view[start : start + PIECE]
    else:
        while piece := stdin.read(PIECE):
            yield piece
