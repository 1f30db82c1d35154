"""Which packs a full verification has read well so far, so that one which was interrupted goes on where it was.

A file of lines in `TORPOR_HOME` for each snapshot that is being read, in each store: `<pack> <seconds since 1970>`. It is a cache: who
loses it reads again. A line that is torn, from the future or older than `KEEP` counts for nothing.
"""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from torpor.format import names

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from torpor.control.catalogue import Snapshot
    from torpor.control.repository import Repository

KEEP = 24 * 3600.0


class Readings:
    """`packs`: when each was read, of those that need not be read again. With `restart`, none. `add` is thread-safe."""

    def __init__(self, repository: Repository, snapshot: Snapshot, *, restart: bool) -> None:
        self._clock = repository.clock
        what = "\0".join((repository.id, repository.store.url, snapshot.id, snapshot.sha256))
        self._path = repository.home.verifying / f"{snapshot.id}-{hashlib.sha256(what.encode()).hexdigest()[:32]}"
        self._lock = threading.Lock()
        now = self._clock.now()
        self.packs: dict[str, float] = {} if restart else self._load(now)
        self._file: int | None = None
        with suppress(OSError):  # a home that may only be read, or is full, costs reading again
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._forget_old(self._file)
            if self.packs:
                os.write(self._file, "".join(_line(name, at) for name, at in self.packs.items()).encode())

    def add(self, pack: str) -> None:
        """Note a pack, named below packs/, that was just read."""
        line = _line(pack, self._clock.now()).encode()
        with self._lock, suppress(OSError):
            if self._file is not None:
                os.write(self._file, line)

    def done(self) -> None:
        """The verification came to its end, good or bad: nothing is left to go on with."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            os.close(self._file)

    def _load(self, now: float) -> dict[str, float]:
        found: dict[str, float] = {}
        try:
            text = self._path.read_text(encoding="ascii", errors="replace")
        except OSError:
            return found
        for line in text.splitlines(keepends=True):
            name, _, at = line.partition(" ")
            with suppress(ValueError):
                if line.endswith("\n") and names.is_pack(name) and now - KEEP < float(at) <= now:
                    found[name] = float(at)
        return found

    def _forget_old(self, file: int) -> None:
        """Remove what nobody will go on with, by the clock of the file system."""
        os.utime(file)
        now = os.fstat(file).st_mtime
        for path in self._path.parent.iterdir():
            with suppress(OSError):
                if path.stat().st_mtime < now - KEEP:
                    path.unlink()


def _line(pack: str, at: float) -> str:
    return f"{pack} {at:.3f}\n"
