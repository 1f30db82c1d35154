"""One connection to a long job: a thread that reads replies, and one that sends what the ledger has."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from torpor.errors import HostFailed
from torpor.format.untrusted import BROKEN
from torpor.remote.protocol import LINE_MAX, Line, parse_reply

if TYPE_CHECKING:
    from torpor.remote.daemon import Ledger

_HELLO = 10.0  # seconds for the first line, which comes at once
_STUCK = 60.0  # seconds without a byte moved: nobody is there any more
_PIECE = 1 << 16


class Hello(msgspec.Struct, frozen=True):
    """The first line of a connection: from which line of the journal on it wants to hear."""

    since: int = 1


_hello: msgspec.json.Decoder[Hello] = msgspec.json.Decoder(Hello)


class Connection:
    """Begins at once. It is served from its first line on, until another one comes, it ends, or the job does."""

    def __init__(self, client: socket.socket, ledger: Ledger) -> None:
        self._socket = client
        self._ledger = ledger
        self._left = False  # another one came; under the ledger's gate
        self._gone = False
        self._done = threading.Event()
        threading.Thread(target=self._read, name="replies", daemon=True).start()

    def leave(self) -> None:
        """Another connection is served now. Under the ledger's gate."""
        self._left = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    def join(self, seconds: float) -> None:
        """Wait until all was sent, or can't be."""
        self._done.wait(seconds)

    def _read(self) -> None:
        try:
            self._socket.settimeout(_HELLO)
            with self._socket.makefile("rb") as replies:
                since = max(1, _hello.decode(replies.readline(_PIECE)).since)
                self._socket.settimeout(None)
                self._ledger.take(self)
                threading.Thread(target=self._send, args=(since - 1,), name="lines", daemon=True).start()
                while text := replies.readline(LINE_MAX):
                    self._ledger.answer(self, parse_reply(text))
        except (OSError, ValueError, HostFailed, *BROKEN):
            pass  # it says what torpor does not say, or nothing: not a connection any more
        with self._ledger.gate:
            self._gone = True
        self._ledger.lost(self)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD if self._left else socket.SHUT_RDWR)

    def _send(self, at: int) -> None:
        asked: set[int] = set()
        order = 0
        try:
            while True:
                with self._ledger.gate:
                    while not (batch := self._next(at, asked, order)) and not self._left and not self._gone and not self._ledger.over:
                        self._ledger.gate.wait()
                    at = max(at, len(self._ledger.said))
                    asked |= self._ledger.asked.keys()
                    order = max([order, *(when for when, _ in self._ledger.progress.values())])
                    if self._left:
                        batch = [_taken_over()]
                    end = self._left or self._gone or self._ledger.over
                for piece in _pieces(b"".join(batch)):
                    self._transmit(piece)
                if end:
                    return
        except OSError:
            return  # the reader notices too
        finally:
            self._done.set()
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _next(self, at: int, asked: set[int], order: int) -> list[bytes]:
        """What was not sent yet."""
        ledger = self._ledger
        questions = [text for number, text in ledger.asked.items() if number not in asked]
        news = sorted(pair for pair in ledger.progress.values() if pair[0] > order)
        return [*ledger.said[at:], *questions, *(text for _, text in news)]

    def _transmit(self, piece: memoryview) -> None:
        """All of it. Raises `OSError` if it does not move."""
        import select

        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        while piece:
            if not poll.poll(_STUCK * 1000):
                raise TimeoutError
            with suppress(BlockingIOError):
                piece = piece[self._socket.send(piece, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]


def _pieces(data: bytes) -> list[memoryview]:
    view = memoryview(data)
    return [view[at : at + _PIECE] for at in range(0, len(view), _PIECE)]


def _taken_over() -> bytes:
    from torpor.remote.host import TakenOver

    error = TakenOver(
        "Another connection follows this job now.",
        safe="The job goes on.",
        remedy="Wait for the other one, or end it and run this again.",
    )
    return msgspec.json.encode(Line(failure=error.as_dict())) + b"\n"
