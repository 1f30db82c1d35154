"""A job for another process of the same host, handed over in memory: by a socket that only this user can open.

    control side ⇄ standard streams ⇄ Relay ⇄ socket ⇄ Visit in the process that runs the engine

The relay passes lines on as they are (`torpor.remote.serve` has them). The visitor's first line names the job; it gets the job, then
the answers to its questions, and perhaps a `stop`. What of it runs again after a failure visits again, and gets the same job.
"""

from __future__ import annotations

import os
import queue
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import IO

import msgspec

from torpor.errors import HostFailed, Interrupted, TorporError, from_dict
from torpor.events import Event
from torpor.format.untrusted import BROKEN
from torpor.jobs import Ask, Grant, Job, Result, decode_job, encode
from torpor.remote.protocol import LINE_MAX, Line, parse, parse_reply

STOP = b'{"stop":true}'  # a line, in place of an answer
_HELLO = 10.0  # seconds for a visitor's first line
_LAST = 30.0  # seconds for the relay to take the last line
_encoder = msgspec.json.Encoder()


class _Hello(msgspec.Struct, frozen=True):
    job: str


class Relay:
    """The host's end of the control side's conversation. `job`: the line that the control side sent, still encoded; `name`: what the
    visitor must call it; `say`: passes one line on to the control side, from one thread at a time."""

    def __init__(self, path: str, name: str, job: bytes, say: Callable[[bytes], object]) -> None:
        self._name = name
        self._job = job
        self._say = say
        self._lock = threading.Lock()
        self._visitor: socket.socket | None = None
        self._stopped = False
        self.over = False  # the last line was said
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        os.chmod(path, 0o600)
        self._socket.listen(1)
        self._thread = threading.Thread(target=self._serve, name="relay", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"Relay({self._name})"

    def answer(self, line: bytes) -> None:
        """Pass a line of the control side's on; dropped if nobody is there, who then asks again."""
        with self._lock:
            self._stopped = self._stopped or line.rstrip() == STOP
            visitor = self._visitor
        if visitor is not None:
            with suppress(OSError):
                visitor.sendall(line)

    def close(self) -> None:
        """Nobody is let in any more, and whoever is there is cut off. Returns when all that was said is passed on."""
        for end in (self._socket, self._visitor):
            if end is not None:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            with visitor:
                if _user_of(visitor) in (os.getuid(), 0):
                    with suppress(OSError, HostFailed, *BROKEN):
                        self._host(visitor)
                with self._lock:
                    self._visitor = None

    def _host(self, visitor: socket.socket) -> None:
        visitor.settimeout(_HELLO)
        with visitor.makefile("rb") as lines:
            if msgspec.json.decode(lines.readline(4096), type=_Hello).job != self._name:
                return
            visitor.settimeout(None)
            visitor.sendall(self._job)
            with self._lock:
                self._visitor = visitor
                if self._stopped:
                    visitor.sendall(STOP + b"\n")
            while (text := lines.readline(LINE_MAX)).endswith(b"\n") and not self.over:
                line = parse(text)
                self._say(text)
                self.over = line.failure is not None or bool(bytes(line.result))


def _user_of(visitor: socket.socket) -> int:
    found = visitor.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", found)[1]
    return uid


class Visit:
    """The engine's end: the job, and how to tell and ask whoever gave it. Any thread may call."""

    def __init__(self, path: str, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(_HELLO)
            self._socket.connect(path)
            self._socket.sendall(_encoder.encode(_Hello(name)) + b"\n")
            self._lines: IO[bytes] = self._socket.makefile("rb")
            text = self._lines.readline(LINE_MAX)
            self._socket.settimeout(None)
        except OSError as error:
            self._socket.close()
            raise _nobody() from error
        if not text.endswith(b"\n"):
            self._socket.close()
            raise _nobody()
        self.job: Job = decode_job(text)
        self._sending = threading.Lock()
        self._asking = threading.Lock()
        self._asked = 0
        self._replies: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="replies", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"Visit({type(self.job).__name__})"

    def _listen(self) -> None:
        with suppress(OSError, ValueError):
            while (text := self._lines.readline(LINE_MAX)).endswith(b"\n"):
                if text.rstrip() == STOP:
                    self._stopped.set()
                else:
                    self._replies.put(text)
        self._stopped.set()
        self._replies.put(b"")

    @property
    def stopped(self) -> bool:
        """Whether the control side wants it to stop, or is gone."""
        return self._stopped.is_set()

    def wait_for_end(self) -> None:
        """Returns when the relay has hung up."""
        self._thread.join()

    def _send(self, line: Line) -> None:
        with self._sending, suppress(OSError):
            self._socket.sendall(_encoder.encode(line) + b"\n")

    def tell(self, event: Event) -> None:
        """A job's listener. Raises `Interrupted` once the control side wants it to stop, or is gone."""
        if self._stopped.is_set():
            raise Interrupted("The job was stopped.", safe="What reached the store is kept.", remedy="Run it again: it goes on from there.")
        self._send(Line(event=event))

    def ask(self, wish: Ask) -> Grant:
        """A job's granter."""
        with self._asking:
            self._asked += 1
            self._send(Line(ask=wish, number=self._asked))
            while True:
                text = self._replies.get()
                if not text:
                    self._replies.put(b"")  # for whoever asks next
                reply = parse_reply(text)
                if reply.number == self._asked:
                    break
        if reply.grant is None:
            raise from_dict(reply.failure or {})
        return reply.grant

    def finish(self, result: Result) -> None:
        """The last line: the result."""
        self._end(Line(result=msgspec.Raw(encode(result))))

    def fail(self, error: TorporError) -> None:
        """The last line: why there is no result."""
        self._end(Line(failure=error.as_dict()))

    def _end(self, line: Line) -> None:
        self._send(line)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._thread.join(_LAST)  # the relay hangs up when it has passed it on

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(_LAST)
        self._lines.close()
        self._socket.close()


def _nobody() -> HostFailed:
    return HostFailed(
        "Nobody hands this job out here.",
        safe="Nothing was started.",
        remedy="A host's flow runs are started by torpor, while it holds the connection; start the hibernation or wake instead.",
    )
