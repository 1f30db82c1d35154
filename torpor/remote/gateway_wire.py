"""The server's side of a connection of HTTP/1.1: heads are bounded and read strictly, bodies go between socket and file by the system."""

from __future__ import annotations

import os
import re
import socket
import struct
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

HEAD_MAX = 8192  # bytes of a request's line and headers
PIECE = 256 * 1024  # bytes that a connection holds of a body

_LINE = re.compile(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.1\Z")
_HEADER = re.compile(rb"([A-Za-z0-9!#$%&'*+.^_`|~-]{1,80}):[ \t]*([ -~\t]*?)[ \t]*\Z")
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})\Z")
_SINGLE = ("content-length", "transfer-encoding", "range", "expect", "connection")


class Ended(Exception):
    """The other side is gone, silent for too long, or said what is no HTTP: the connection is of no use any more."""


class Head(NamedTuple):
    """A request without its body. `headers` by names in lower case; `length`: bytes of the body that follow."""

    method: str
    target: str
    headers: dict[str, str]
    length: int


class Connection:
    """One accepted socket, for one thread; another may `end` it. `left`: bytes of the request's body that are still to come."""

    def __init__(self, sock: socket.socket, stall: float) -> None:
        # The kernel's own timeouts: the socket stays a blocking one, so that a wait costs no second call.
        limit = struct.pack("ll", int(stall), int(stall % 1 * 1e6))
        sock.settimeout(None)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._early = bytearray()  # came with a head, and belongs to what follows
        self._space = memoryview(b"")
        self._continue = False
        self.left = 0
        self.last = False  # no request can follow

    def next(self) -> Head | None:
        """The next request; None if the other side has no more. Raises `Ended`."""
        while (end := self._early.find(b"\r\n\r\n")) < 0:
            if len(self._early) > HEAD_MAX:
                raise Ended("a head without an end")
            piece = self._receive(bytearray(HEAD_MAX))
            if not piece:
                return None
            self._early += piece
        if end > HEAD_MAX:
            raise Ended("a head without an end")
        text = bytes(self._early[:end])
        del self._early[: end + 4]
        head = parse(text)
        self.left = head.length
        self._continue = head.headers.get("expect", "").lower() == "100-continue"
        self.last = head.headers.get("connection", "").lower() == "close"
        return head

    def answer(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"", length: int | None = None) -> None:
        """Send a head, and `body` with it. `length`: of the body that it speaks of, where that is another."""
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Length: {len(body) if length is None else length}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if self.last:
            lines.append("Connection: close")
        self.send(memoryview("\r\n".join([*lines, "", ""]).encode() + body))

    def send(self, data: memoryview) -> None:
        while data:
            try:
                data = data[self._sock.send(data) :]
            except OSError as error:
                raise Ended("sending failed") from error

    def send_file(self, fd: int, start: int, end: int) -> None:
        """Bytes `start` to `end` of a file, which no buffer of ours holds. Raises `Ended` if they are not all there."""
        out = self._sock.fileno()
        while start < end:
            try:
                sent = os.sendfile(out, fd, start, min(end - start, 1 << 30))
            except OSError as error:
                raise Ended("sending failed") from error
            if not sent:
                raise Ended("the file was cut off")
            start += sent

    def read(self) -> memoryview:
        """Some of the body, until the next call; empty at its end. Raises `Ended` if it breaks off."""
        if not self.left:
            return memoryview(b"")
        if self._early:
            piece = memoryview(bytes(self._early[: min(self.left, PIECE)]))
            del self._early[: len(piece)]
            self.left -= len(piece)
            return piece
        if self._continue:
            self._continue = False
            self.send(memoryview(b"HTTP/1.1 100 Continue\r\n\r\n"))
        if not self._space:
            self._space = memoryview(bytearray(PIECE))
        try:
            count = self._sock.recv_into(self._space[: min(self.left, PIECE)])
        except OSError as error:
            raise Ended("receiving failed") from error
        if not count:
            raise Ended("a body broke off")
        self.left -= count
        return self._space[:count]

    def pass_over(self, most: int) -> None:
        """Read what is left of the body and drop it, so that the answer is not lost with it. Of more than `most` bytes, none is read."""
        if self._continue or self.left > most:
            self.last = True
            return
        while self.read():
            pass

    def linger(self) -> None:
        """Before a connection ends on which the other side may still be sending: end our half, and wait a moment for it to notice."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
            self._sock.settimeout(1.0)
            space, seen = bytearray(PIECE), 0
            while seen < 4 * PIECE and (count := self._sock.recv_into(space)):
                seen += count
        except OSError:
            return

    def end(self) -> None:
        """From any thread: whoever waits for this connection is woken, and finds it ended."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        self._sock.close()

    def _receive(self, space: bytearray) -> bytes:
        try:
            return bytes(space[: self._sock.recv_into(space)])
        except OSError as error:
            raise Ended("receiving failed") from error


def parse(text: bytes) -> Head:
    """A head without its empty line. Raises `Ended` for whatever could be read in two ways."""
    line, *rest = text.split(b"\r\n")
    found = _LINE.match(line)
    if found is None:
        raise Ended("no request")
    headers: dict[str, str] = {}
    for one in rest:
        header = _HEADER.match(one)
        if header is None:
            raise Ended("no header")
        name = header[1].decode().lower()
        if name in headers and name in _SINGLE:
            raise Ended("a header twice")
        headers[name] = header[2].decode()
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not length.isascii() or not length.isdigit() or len(length) > 15:
        raise Ended("a body of unknown length")
    return Head(found[1].decode(), found[2].decode(), headers, int(length))


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """First byte and end of the one range that is asked for, of `size` bytes; None: all. The end lies before the start if there are no
    such bytes. What is no such range is no range, as RFC 9110 has it."""
    found = _RANGE.match(text)
    if found is None or (found[2] and int(found[2]) < int(found[1])):
        return None
    start = int(found[1])
    end = min(size, int(found[2]) + 1 if found[2] else size)
    return (start, end) if start < size else (size, -1)
