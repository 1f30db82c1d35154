"""Who watches the runs of this process: a command line that started one hears every event and every stage at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import msgspec

from torpor.events import Event


class StageState(msgspec.Struct, frozen=True):
    """A task that people see began or ended. `message`: its figures, or why it failed."""

    name: str
    state: Literal["running", "completed", "failed"]
    message: str = ""


Watcher = Callable[[Event | StageState], None]

_watchers: list[Watcher] = []
_lock = threading.Lock()


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Tell `watcher` everything until the block ends. It is called on the runs' threads, one call at a time."""
    with _lock:
        _watchers.append(watcher)
    try:
        yield
    finally:
        with _lock:
            _watchers.remove(watcher)


def tell(what: Event | StageState) -> None:
    with _lock:
        for watcher in _watchers:
            watcher(what)
