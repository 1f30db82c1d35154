"""A command on another machine, in a channel of an SSH connection."""

from __future__ import annotations

import io
import secrets
import shlex
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, cast

from torpor.errors import MachineError
from torpor.ssh.base import Dropped, Overdue
from torpor.ssh.link import Link, Refused
from torpor.ssh.talk import Tail

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_BEGIN = 30.0  # seconds until a command has begun
_END = 10.0  # seconds for the order to end one
_NOISE = 1 << 16  # bytes that a login shell may say before
_PACKET = 1 << 15


class SshChannel:
    """`sh -c COMMAND`, begun. A first line of its output, which is taken off again, tells its process id and that it runs: what files
    such as ~/.bashrc print before it is dropped."""

    def __init__(self, link: Link, raw: Any, command: str, whom: str, left: Callable[[], None]) -> None:
        self._link = link
        self._raw = raw
        self._whom = whom
        self._left = left
        self._closed = threading.Event()
        self._tail = Tail()
        self._hearer = threading.Thread(target=self._hear, name="torpor-stderr", daemon=True)
        mark = f"torpor-{secrets.token_hex(8)}"
        script = f'echo "{mark} $$"; sh -c "$1"; exit $?'
        import paramiko

        try:
            raw.exec_command(f"exec sh -c {shlex.quote(script)} sh {shlex.quote(command)}")
        except (paramiko.SSHException, OSError, EOFError) as error:
            self.close()
            raise self._dropped(str(error)) from error
        self._hearer.start()
        try:
            self._pid, first = self._begun(mark.encode())
        except BaseException:
            self.close()
            raise
        self.stdin = cast("IO[bytes]", _Input(raw))
        self.out: IO[bytes] = io.BufferedReader(_Output(raw, first), 1 << 17)

    def _begun(self, mark: bytes) -> tuple[str, bytes]:
        """Its process id, and what came with the line that tells it."""
        said = b""
        until = time.monotonic() + _BEGIN  # for all of it: a login may print now and then, for ever
        while True:
            self._raw.settimeout(max(0.01, until - time.monotonic()))
            line, end, rest = said[max(said.find(mark), 0) :].partition(b"\n")
            if end and line.startswith(mark):
                self._raw.settimeout(None)
                return line.split()[-1].decode(), rest
            try:
                piece = self._raw.recv(_PACKET)
            except TimeoutError:
                raise self._dropped("it did not begin in time") from None
            if not piece:
                break
            said = (said + piece)[-_NOISE:]
        if self._raw.status_event.wait(1.0) and self._raw.exit_status == -1:
            raise self._dropped("")
        words = (self.told() or said).decode(errors="replace").strip()[-500:]
        raise MachineError(
            f"{self._whom} runs no commands (exit code {self._raw.exit_status}): {words or 'it says nothing'}.",
            safe="Nothing was done there.",
            remedy="Its login must have a shell, and sh must be on PATH.",
        )

    def _hear(self) -> None:
        with suppress(OSError):
            while piece := self._raw.recv_stderr(_PACKET):
                self._tail.add(piece)

    def wait(self, seconds: float) -> int:
        if not self._raw.status_event.wait(seconds):
            raise Overdue(f"A command on {self._whom} still runs after {seconds:g} seconds.")
        if self._raw.exit_status == -1:
            raise self._dropped("")
        return int(self._raw.exit_status)

    def told(self) -> bytes:
        if self._raw.status_event.is_set():
            self._hearer.join(1.0)  # longer only if it left somebody behind who holds the stream
        return self._tail.value()

    def end(self) -> None:
        """Tell the machine to end it and its group: TERM, and KILL two seconds later. If that can't be told, it is left alone."""
        if not self._raw.status_event.is_set() and self._link.alive:
            order = f"kill -s TERM -- -{self._pid}; (sleep 2; kill -s KILL -- -{self._pid}) >/dev/null 2>&1 </dev/null &"
            with suppress(Refused, OSError, EOFError):
                other = self._link.channel(_END)
                with other:
                    other.exec_command(f"exec sh -c {shlex.quote(order)}")
                    other.status_event.wait(_END)
        self.close()

    def close(self) -> None:
        self._raw.close()
        if not self._closed.is_set():
            self._closed.set()
            self._left()

    def _dropped(self, why: str) -> Dropped:
        return Dropped(
            f"The connection to {self._whom} broke while a command ran{': ' + why.rstrip('.') if why else ''}.",
            safe="What the command did until then stays.",
            remedy="Run it again: it connects anew.",
        )


class _Output(io.RawIOBase):
    """What a command says. Empty at its end, and when the channel was closed."""

    def __init__(self, raw: Any, first: bytes) -> None:
        self._raw = raw
        self._first = first

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        if self._first:
            piece, self._first = self._first[: len(view)], self._first[len(view) :]
        else:
            piece = self._raw.recv(len(view))
        view[: len(piece)] = piece
        return len(piece)


class _Input(io.RawIOBase):
    """What a command is given; nothing is held back."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        """All of it. Raises `BrokenPipeError` if nobody reads any more."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _PACKET):
            left = bytes(view[start : start + _PACKET])
            while left:
                sent = 0
                with suppress(OSError, EOFError):
                    sent = self._raw.send(left)
                if not sent:
                    raise BrokenPipeError("the command has ended, or its connection")
                left = left[sent:]
        return len(view)

    def close(self) -> None:
        if not self.closed:
            super().close()
            with suppress(OSError, EOFError):
                self._raw.shutdown_write()
