"""What a host keeps of a long job, and who may touch it.

<state>/jobs/<name>/lock      held (flock) by the job's process as long as it lives; its process id
<state>/jobs/<name>/socket    where that process takes connections
<state>/jobs/<name>/lines     what the job has said, one `Line` a line; no keys and no grants
<state>/jobs/<name>/errors    what its process printed, for defects

A folder appears with its lock held and its socket open: whoever sees it can tell a job that runs from one whose process died.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from torpor.errors import UsageError
from torpor.format.untrusted import BROKEN
from torpor.remote.protocol import Known, Line

_NAME = re.compile(r"[0-9A-Za-z-]{1,100}\Z")
_FORGOTTEN = 7 * 86_400.0  # seconds: nobody comes any more for what a job of last week has said

_lines: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def folder_of(state: bytes, name: str) -> JobFolder:
    if not _NAME.match(name):
        raise UsageError(f"{name!r} is no name of a job.")
    return JobFolder(os.path.join(state, b"jobs", name.encode()))


class JobFolder:
    """The folder of one job, below `<state>/jobs`. Its path may be relative."""

    def __init__(self, path: bytes) -> None:
        self.path = path

    @property
    def jobs(self) -> bytes:
        return os.path.dirname(self.path)

    def file(self, name: str) -> bytes:
        return os.path.join(self.path, name.encode())

    def known(self) -> Known:
        """What there is of the job."""
        if not os.path.isdir(self.path):
            return "new"
        if self.has_ended():
            return "ended"
        if self.is_alive():
            return "running"
        if self.has_ended():  # between the two questions
            return "ended"
        return "died" if os.path.isdir(self.path) else "new"

    def is_alive(self) -> bool:
        """Whether the job's process lives."""
        try:
            fd = os.open(self.file("lock"), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def pid(self) -> int | None:
        """The job's process, if it lives."""
        try:
            with open(self.file("lock"), encoding="ascii") as file:
                pid = int(file.read() or 0)
        except (FileNotFoundError, ValueError):
            return None
        return pid if pid > 1 and self.is_alive() else None

    def lines(self) -> list[bytes]:
        """What the job has said so far, each line with its end; one that is not whole is left out."""
        try:
            with open(self.file("lines"), "rb") as file:
                return [line for line in file if line.endswith(b"\n")]
        except FileNotFoundError:
            return []

    def has_ended(self) -> bool:
        """Whether the last line is a result or a failure."""
        found = self.lines()
        try:
            last = _lines.decode(found[-1]) if found else Line()
        except BROKEN:
            return False
        return last.failure is not None or bool(bytes(last.result))

    def connect(self) -> socket.socket | None:
        """A connection to the job's process; None if it takes none any more."""
        client = socket.socket(socket.AF_UNIX)
        try:
            with _inside(self.path):  # a socket's path has 107 bytes at most
                client.connect("socket")
        except OSError:
            client.close()
            return None
        return client

    def remove(self) -> None:
        _remove(self.path)


class Draft:
    """A job's folder before anybody sees it. The lock and the socket go on in the process that is forked next."""

    def __init__(self, folder: JobFolder) -> None:
        self.folder = folder
        os.makedirs(folder.jobs, mode=0o700, exist_ok=True)
        self._path = os.path.join(folder.jobs, b".%d-%d" % (os.getpid(), time.monotonic_ns()))
        os.mkdir(self._path, 0o700)
        private = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self.lock = os.open(os.path.join(self._path, b"lock"), private, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.lines = os.open(os.path.join(self._path, b"lines"), private | os.O_APPEND, 0o600)
        self.errors = os.open(os.path.join(self._path, b"errors"), private | os.O_APPEND, 0o600)
        self.door = socket.socket(socket.AF_UNIX)
        with _inside(self._path):
            self.door.bind("socket")
        self.door.listen(8)

    def publish(self) -> bool:
        """Give the folder its name, in the process that will do the job. False if another was quicker: then this one is gone."""
        os.write(self.lock, b"%d" % os.getpid())
        try:
            os.rename(self._path, self.folder.path)
        except OSError:
            _remove(self._path)
            if not os.path.isdir(self.folder.path):
                raise
            return False
        return True

    def close(self) -> None:
        """Let go of everything, in a process that will not do the job."""
        for fd in (self.lock, self.lines, self.errors):
            os.close(fd)
        self.door.close()


def _remove(folder: bytes) -> None:
    """A folder of files."""
    with suppress(FileNotFoundError):
        for name in os.listdir(folder):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


@contextmanager
def _inside(folder: bytes) -> Iterator[None]:
    """Only for a process with one thread."""
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(folder)
        yield
    finally:
        os.fchdir(before)
        os.close(before)


def tidy(jobs: bytes) -> None:
    """Remove what jobs left whose control side never came back."""
    with suppress(FileNotFoundError):
        for name in os.listdir(jobs):
            path = os.path.join(jobs, name)
            with suppress(FileNotFoundError):
                if time.time() - os.stat(path).st_mtime < _FORGOTTEN:
                    continue
            folder = JobFolder(path)
            if not folder.is_alive():
                folder.remove()
