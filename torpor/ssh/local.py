"""Commands on this computer, in the form of those on others: for tests, and for machines that are this computer."""

from __future__ import annotations

import io
import os
import select
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, TYPE_CHECKING, cast

from torpor.ssh.base import Dropped, Ran
from torpor.ssh.talk import PIECE, Tail, pump

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")


class LocalShell:
    """`sh -c` in a session of its own. `environment`: all that commands see; by default what a login has, and no secret."""

    def __init__(self, environment: Mapping[str, str] | None = None, folder: str | None = None) -> None:
        if environment is None:
            environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        self._environment = dict(environment)
        self._folder = folder or self._environment.get("HOME") or None

    def run(self, command: str, stdin: bytes | IO[bytes] = b"", seconds: float = 60.0) -> Ran:
        return pump(self.open(command), stdin, seconds, "this computer")

    def open(self, command: str) -> LocalChannel:
        """As `Shell.open`. It begins in the home folder, as over SSH."""
        return LocalChannel(command, self._environment, self._folder)

    def close(self) -> None:
        """There is no connection to end."""


class LocalChannel:
    """A process with its streams."""

    def __init__(self, command: str, environment: Mapping[str, str], folder: str | None) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, env=environment, cwd=folder, start_new_session=True,
        )  # fmt: skip
        if self._process.stdin is None or self._process.stdout is None or self._process.stderr is None:
            raise Dropped("A command has no streams.")
        self._cut = threading.Event()
        self._streams = [_Stream(stream, self._cut) for stream in (self._process.stdin, self._process.stdout, self._process.stderr)]
        self.stdin = cast("IO[bytes]", self._streams[0])
        self.out: IO[bytes] = io.BufferedReader(self._streams[1], PIECE)
        self._tail = Tail()
        self._listener = threading.Thread(target=self._hear, args=(self._streams[2],), name="torpor-stderr", daemon=True)
        self._listener.start()

    def _hear(self, stderr: _Stream) -> None:
        with stderr:
            while piece := stderr.read(PIECE):
                self._tail.add(piece)

    def wait(self, seconds: float) -> int:
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Dropped(f"A command on this computer still runs after {seconds:g} seconds.") from None
        return code if code >= 0 else 128 - code  # as a shell has it

    def told(self) -> bytes:
        if self._process.poll() is not None:
            self._listener.join(1.0)  # longer only if it left somebody behind who holds the stream
        return self._tail.value()

    def end(self) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._cut.set()

    def close(self) -> None:
        """What still runs gets the end of its input, and nobody reads what it says: as when a connection ends."""
        self._cut.set()
        self.stdin.close()
        with suppress(ValueError):
            self.out.close()
        if self._process.poll() is None:
            threading.Thread(target=self._process.wait, name="torpor-reaper", daemon=True).start()


class _Stream(io.RawIOBase):
    """One end of a pipe, whose waits end when the channel is cut."""

    def __init__(self, pipe: IO[bytes], cut: threading.Event) -> None:
        self._pipe = pipe
        self._cut = cut
        self._lock = threading.Lock()  # so that nobody closes a descriptor in another's hand
        os.set_blocking(pipe.fileno(), False)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def _wait(self, events: int) -> None:
        waiting = select.poll()
        waiting.register(self._pipe.fileno(), events)
        while not self._cut.is_set() and not waiting.poll(100):
            continue

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        with self._lock:
            while True:
                try:
                    return os.readv(self._pipe.fileno(), [view])
                except BlockingIOError:
                    if self._cut.is_set():
                        return 0
                    self._wait(select.POLLIN)

    def write(self, data: ReadableBuffer) -> int:
        """All of it. Raises `BrokenPipeError` if nobody reads any more."""
        view = memoryview(data).cast("B")
        size = len(view)
        with self._lock:
            while view:
                try:
                    view = view[os.write(self._pipe.fileno(), view) :]
                except BlockingIOError:
                    if self._cut.is_set():
                        raise BrokenPipeError("the command was ended") from None
                    self._wait(select.POLLOUT)
        return size

    def close(self) -> None:
        with self._lock:
            self._pipe.close()
            super().close()
