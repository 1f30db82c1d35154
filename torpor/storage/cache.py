"""A bounded folder of what was read from storage, so that reading it again costs no request. Never fatal: at worst it saves nothing.

    <folder>/<2 digits>/<digest of the object>/<start>-<end>     those bytes of the object, then the BLAKE3 of them, 32 bytes

Ranges are kept as they were asked for: a restore asks for the same ones again, and whole packs would cost what it leaves out. The
BLAKE3 of a pack, which the index has, cannot check a part of it. So each range carries its own, compared on every hit: that finds what
a disk or a crash made of it. It finds no forger, and need not: whoever reads a chunk checks its seal and its id, as if it came from
the store, and drops the object here if they are wrong. What is kept is sealed, except in repositories without encryption.

Files appear whole (written beside, then renamed), are never changed, and are touched when they are used; the one that was not used
for longest goes first. Several processes share a folder: each counts what it adds and looks at all of it now and then, so that a
sixteenth of the bound for each process is the most that can be too much.
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from blake3 import blake3

from torpor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

DIGEST = 32
_LOOK = 16  # the part of the bound after which a process looks again at what others added
_ROOM = 10  # the part of the bound that is freed at a time
_STALE = 3600.0  # seconds after which a file that was never finished is garbage
_UNFINISHED = b".new-"


class _Range(NamedTuple):
    """Bytes `start` to `end` of an object."""

    start: int
    end: int
    path: bytes


class Cache:
    """At most `limit` bytes below `folder`, which is made with permissions 0700. All methods may be called from several threads.

    `key` names an object by a digest of its whole, in hex. `hits` counts bytes that were read here.
    """

    def __init__(self, folder: bytes, limit: int) -> None:
        if limit < 0:
            raise UsageError("A cache cannot have a negative size.")
        self._folder = os.path.abspath(folder)
        self._limit = limit
        self._lock = threading.Lock()
        self._names = count()
        self._size: int | None = None  # of all there is, when it was last looked at, and of what was added since
        self._added = 0
        self._pending = 0  # bytes that other threads have room for and have not written yet
        self._broken = ""
        self.hits = 0

    def read(self, key: str, start: int, out: memoryview) -> bool:
        """Fill `out` with the object's bytes from `start` on, if all of them are here; else what `out` holds is undefined."""
        at, end = start, start + len(out)
        try:
            for part in self._chain(key, start, end):
                stop = min(end, part.end)
                if not self._read(part, at, out[at - start : stop - start]):
                    return False
                at = stop
        except OSError:
            return False
        if at < end:
            return False
        with self._lock:
            self.hits += len(out)
        return True

    def keep(self, key: str, start: int, data: memoryview) -> None:
        """Keep a range of an object, if there is room for it."""
        if self._broken or not len(data):
            return
        folder = self._place(key)
        try:
            if not self._make_room(len(data) + DIGEST):
                return
            try:
                os.makedirs(folder, mode=0o700, exist_ok=True)
                self._write(os.path.join(folder, b"%d-%d" % (start, start + len(data))), data)
            finally:
                with self._lock:
                    self._pending -= len(data) + DIGEST
        except FileNotFoundError:
            return  # another process removed the folder at this moment
        except OSError as error:
            self._broken = error.strerror or "an error without a name"

    def drop(self, key: str) -> None:
        """Forget all of an object: what was read of it is not what was written."""
        with suppress(OSError):
            for part in self._ranges(key):
                os.unlink(part.path)

    def notes(self) -> list[str]:
        """What people should know."""
        return [f"Nothing more was kept in the cache {os.fsdecode(self._folder)}: {self._broken}."] if self._broken else []

    def _place(self, key: str) -> bytes:
        return os.path.join(self._folder, key[:2].encode(), key.encode())

    def _ranges(self, key: str) -> list[_Range]:
        folder = self._place(key)
        found = []
        for name in os.listdir(folder):
            first, dash, last = name.partition(b"-")
            if dash and first.isdigit() and last.isdigit():
                found.append(_Range(int(first), int(last), os.path.join(folder, name)))
        return found

    def _chain(self, key: str, start: int, end: int) -> Iterator[_Range]:
        """Ranges that hold `start` to `end` together, as few as there need be; they may end too early."""
        ranges = self._ranges(key)
        at = start
        while at < end:
            fit = [part for part in ranges if part.start <= at < part.end]
            if not fit:
                return
            # One that is wanted from end to end is read in place; else the one that reaches farthest.
            best = max(fit, key=lambda part: (min(part.end, end), part.start == at and part.end <= end))
            yield best
            at = best.end

    def _read(self, part: _Range, at: int, out: memoryview) -> bool:
        """Fill `out` from `at` on out of one range, after its digest was compared; a range that is false is removed."""
        fd = os.open(part.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            size = part.end - part.start
            whole = out if (at, len(out)) == (part.start, size) else memoryview(bytearray(size))
            digest = bytearray(DIGEST)
            right = os.fstat(fd).st_size == size + DIGEST and os.preadv(fd, [whole, digest], 0) == size + DIGEST
            if not right or blake3(whole).digest() != digest:
                os.unlink(part.path)
                return False
            if whole is not out:
                out[:] = whole[at - part.start :][: len(out)]
            with suppress(OSError):
                os.utime(fd)
            return True
        finally:
            os.close(fd)

    def _write(self, path: bytes, data: memoryview) -> None:
        unfinished = os.path.join(self._folder, b"%s%d-%d" % (_UNFINISHED, os.getpid(), next(self._names)))
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            left = [data, memoryview(blake3(data).digest())]
            while left:
                written = os.writev(fd, left)
                while left and written >= len(left[0]):
                    written -= len(left.pop(0))
                if left:
                    left[0] = left[0][written:]
            os.rename(unfinished, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(unfinished)
            raise
        finally:
            os.close(fd)

    def _make_room(self, size: int) -> bool:
        """Whether `size` bytes may be added, after others were removed if need be."""
        with self._lock:
            if self._pending + size > self._limit:  # what is being written can't be removed to make room
                return False
            if self._size is None:
                os.makedirs(self._folder, mode=0o700, exist_ok=True)
            look = self._size is None or self._size + size > self._limit or self._added > self._limit // _LOOK
            if look and not self._trim(self._pending + size):
                return False
            self._pending += size
            self._size = (self._size or 0) + size
            self._added += size
            return True

    def _trim(self, size: int) -> bool:
        """Look at everything, and remove what was not used for longest until `size` fits. False while another process does so."""
        lock = os.open(os.path.join(self._folder, b"lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            os.utime(lock)
            found = sorted(self._all(os.fstat(lock).st_mtime - _STALE))
            total = sum(length for _, length, _ in found)
            if total + size > self._limit:
                room = self._limit - max(size, self._limit // _ROOM)
                for _, length, path in found:
                    if total <= room:
                        break
                    with suppress(FileNotFoundError):
                        os.unlink(path)
                    total -= length
                    with suppress(OSError):  # others are in it
                        os.rmdir(os.path.dirname(path))
            self._size, self._added = total + self._pending, 0
            return True
        finally:
            os.close(lock)

    def _all(self, stale: float) -> Iterator[tuple[int, int, bytes]]:
        """Of each file: when it was used last, its size, its path. What was begun before `stale` and never finished is removed."""
        for folder, _, files in os.walk(self._folder):
            for name in files:
                path = os.path.join(folder, name)
                try:
                    found = os.lstat(path)
                    if name.startswith(_UNFINISHED):
                        if found.st_mtime < stale:
                            os.unlink(path)
                    elif folder != self._folder:
                        yield found.st_mtime_ns, found.st_size, path
                except FileNotFoundError:
                    continue
