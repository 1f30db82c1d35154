"""Open files kept for the next use: a bounded set, least recently used out first, never closed while a thread reads from it."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _Open:
    __slots__ = ("fd", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 0


class FilePool:
    """File descriptors by key. At most `limit` stay open, more only while more are in use at once."""

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}  # in order of use, the latest last

    @contextmanager
    def using(self, key: str, opener: Callable[[], int]) -> Iterator[int]:
        """The descriptor kept under `key`, or the one `opener` makes; valid inside the `with`."""
        entry = self._take(key, opener)
        try:
            yield entry.fd
        finally:
            with self._lock:
                entry.users -= 1
                if self._open.get(key) is not entry and not entry.users:
                    os.close(entry.fd)
                self._trim()

    def forget(self, key: str) -> None:
        """Open it anew next time; those who use it now may finish."""
        with self._lock:
            entry = self._open.pop(key, None)
            if entry is not None and not entry.users:
                os.close(entry.fd)

    def close(self) -> None:
        for key in list(self._open):
            self.forget(key)

    def __len__(self) -> int:
        return len(self._open)

    def _take(self, key: str, opener: Callable[[], int]) -> _Open:
        with self._lock:
            entry = self._open.pop(key, None)
            if entry is None:
                # Under the lock, so that two threads do not open one file twice. Opening is short beside the reads it serves.
                entry = _Open(opener())
            self._open[key] = entry
            entry.users += 1
            self._trim()
            return entry

    def _trim(self) -> None:
        spare = len(self._open) - self._limit
        if spare <= 0:
            return
        for key in [key for key, entry in self._open.items() if not entry.users][:spare]:
            os.close(self._open.pop(key).fd)
