"""Connections of HTTP/1.1: kept alive, one request each at a time, bodies sent from the caller's buffers and read into them.

The standard library's client (docs/decisions/0008-http-client.md). It is imported with the first request.
"""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from torpor.errors import UsageError
from torpor.storage.base import Refused
from torpor.storage.retry import Again

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from http.client import HTTPConnection, HTTPResponse
    from ssl import SSLContext

    from torpor.storage.options import Options

    Moved = Callable[[int], None]

PIECE = 1024 * 1024  # bytes that are counted together, and paid for at once where there is a limit on bytes a second
SMALLEST = 16 * 1024
TEXT = 64 * 1024  # the most that is read of an answer meant for people


class Place(NamedTuple):
    """Where connections lead. Prints as what an error may show: a host, never a path or a query."""

    secure: bool
    host: str
    port: int

    def __str__(self) -> str:
        usual = self.port == (443 if self.secure else 80)
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if usual else f"{name}:{self.port}"


def split(url: str) -> tuple[Place, str]:
    """The place, and what to ask for there: path and query as they stand, since they are signed. `UsageError` never shows the URL."""
    try:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        place = Place(secure, parts.hostname or "", parts.port or (443 if secure else 80))
    except ValueError:
        raise UsageError("A granted request has a URL that cannot be read.") from None
    if not place.host or parts.username is not None or any(not "!" <= letter <= "~" for letter in url):
        raise UsageError("A granted request has a URL that cannot be used: it needs a host, no user, and plain ASCII.")
    return place, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


class Answer:
    """What came back; its body is still to be read. `left`: bytes of the body that are to come, None if it was not said. `sent`:
    whether the request's body had been sent whole."""

    def __init__(self, wire: Wire, place: Place, connection: HTTPConnection, response: HTTPResponse, sent: bool) -> None:
        self.sent = sent
        self.status = response.status
        self.left: int | None = None if response.chunked else response.length
        self._wire = wire
        self._place = place
        self._connection = connection
        self._response = response
        self._whole = False  # nothing of the body is left
        self.got = 0
        # One read of the socket at a time: what came before a break counts.
        self._read = response.readinto if response.chunked else response.fp.readinto1

    def header(self, name: str) -> str:
        """Empty if there is none; of several of one name all, as one list."""
        return ", ".join(self._response.headers.get_all(name, ()))

    def read_into(self, out: memoryview) -> int:
        """Fill `out`, or what of it the body still has; the count is in `got` too, also when it ends with an error. `Again` if it broke."""
        self.got = 0
        if self.left is not None:
            out = out[: self.left]
        size = len(out)
        try:
            while self.got < size and not self._whole:
                count = self._read(out[self.got :])
                self.got += count
                if not count:
                    self._whole = True
        except Exception as error:
            raise self._wire.lost(error, self._place, "answering", sent=self.sent) from error
        finally:
            if self.left is not None:
                self.left -= self.got
        if self._whole and self.left:
            raise Again(f"{self._place} ended its answer too early", sent=self.sent)
        return self.got

    def text(self) -> bytes:
        """The body of an answer meant for people, or the beginning of it; what cannot be read is left out."""
        found, space = b"", memoryview(bytearray(8192))
        with suppress(Again):
            while len(found) < TEXT and not self._whole:
                self.read_into(space)
                found += space[: self.got]
                if self.left == 0:
                    break
        return found

    def end(self) -> None:
        """Keep the connection if all was read, else close it. Must be called, whatever happened."""
        keep = self.sent and (self._whole or self.left == 0) and not self._response.will_close
        self._response.close()
        if keep:
            self._wire.keep(self._place, self._connection)
        else:
            self._connection.close()


class Wire:
    """The connections of one transport, for any number of threads."""

    def __init__(self, options: Options) -> None:
        # Under a limit so small that no connection is silent for long while others have their turn: stores end those that are.
        self.piece = max(SMALLEST, min(PIECE, options.rate // 64)) if options.rate else PIECE
        self._options = options
        self._lock = threading.Lock()
        self._idle: dict[Place, list[HTTPConnection]] = {}
        self._tls: SSLContext | None = None
        self._closed = False

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: Sequence[memoryview] = (), moved: Moved | None = None
    ) -> Answer:
        """One request and the head of its answer. Raises `Again` for what the network did, `Refused` for a certificate.

        `moved` is called with the size of each piece of the body, before it is sent.
        """
        place, target = split(url)
        connection, fresh = self._take(place)
        sent = False
        try:
            try:
                _head(connection, method, target, headers)
                for part in body:
                    for at in range(0, len(part), self.piece):
                        piece = part[at : at + self.piece]
                        if moved is not None:
                            moved(len(piece))
                        while piece:  # not `sendall`, whose timeout is for all of it: a slow link is no stalled one
                            piece = piece[connection.sock.send(piece) :]
                sent = True
            except ConnectionError:  # perhaps it has said why before it stopped listening
                if connection.sock is None or not _readable(connection.sock, 1.0):
                    raise
            response = connection.getresponse()
        except BaseException as error:
            connection.close()
            if not isinstance(error, Exception):
                raise
            raise self.lost(error, place, "being asked", sent=sent, kept=not fresh) from error
        return Answer(self, place, connection, response, sent)

    def keep(self, place: Place, connection: HTTPConnection) -> None:
        with self._lock:
            idle = self._idle.setdefault(place, [])
            if not self._closed and len(idle) < self._options.connections:
                idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def lost(self, error: Exception, place: Place, when: str, *, sent: bool, kept: bool = False) -> Exception:
        """What a connection's end means."""
        from http.client import HTTPException
        from ssl import SSLCertVerificationError

        if isinstance(error, SSLCertVerificationError):
            return Refused(
                f"{place} does not prove that it is {place.host}: {error.verify_message}.",
                safe="Nothing was sent.",
                remedy="Set the clock, and install the system's CA certificates (Debian: apt-get install ca-certificates).",
            )
        if isinstance(error, TimeoutError):
            return Again(f"{place} did not go on in time while {when}", busy=True, sent=sent)
        if isinstance(error, OSError | HTTPException):
            if kept and isinstance(error, ConnectionError):
                self._forget(place)
                return Again(f"{place} had closed a connection", stale=True, sent=sent)
            return Again(f"{place} broke off while {when} ({_reason(error)})", sent=sent)
        return error

    def _take(self, place: Place) -> tuple[HTTPConnection, bool]:
        """A connection, and whether it is a new one."""
        while True:
            with self._lock:
                idle = self._idle.get(place)
                connection = idle.pop() if idle else None
            if connection is None:
                return self._connect(place), True
            if connection.sock is not None and not _readable(connection.sock, 0):
                return connection, False
            connection.close()  # ended by the other side, or it says what nobody asked

    def _forget(self, place: Place) -> None:
        """One kept connection had ended: the others are no younger."""
        with self._lock:
            idle = self._idle.pop(place, [])
        for connection in idle:
            connection.close()

    def _connect(self, place: Place) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection

        connection: HTTPConnection
        if place.secure:
            connection = HTTPSConnection(place.host, place.port, timeout=self._options.connect, context=self._context())
        else:
            connection = HTTPConnection(place.host, place.port, timeout=self._options.connect)
        connection.auto_open = 0
        try:
            connection.connect()  # with TCP_NODELAY
            connection.sock.settimeout(self._options.stall)
            with suppress(OSError, AttributeError):  # where the kernel has it: it needs few losses to be slow, and is the sender's alone
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"bbr")
        except Exception as error:
            connection.close()
            raise self.lost(error, place, "being connected to", sent=False) from error
        return connection

    def _context(self) -> SSLContext:
        with self._lock:
            if self._tls is None:
                from ssl import create_default_context

                self._tls = create_default_context()
            return self._tls


def _head(connection: HTTPConnection, method: str, target: str, headers: Mapping[str, str]) -> None:
    connection.putrequest(method, target, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()


def _readable(sock: socket.socket, timeout: float) -> bool:
    poll = select.poll()  # select.select has no place for descriptors of 1024 and more
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _reason(error: Exception) -> str:
    """What happened, without anything that was sent or received."""
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
