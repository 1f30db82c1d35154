"""A control side that kills itself (SIGKILL) at a moment of a snapshot or a restore. What to do comes as JSON in the argument.

    {"do": "take" | "restore", "lab": folder, "door": URL, "path": root or target, "moment": "put claims/", "nth": 1, "after": false}

Moments are what it does to the store (`put claims/…`), to the host (`open attach`, `run rm`), the questions that it answers (`ask`) and
the events that it hears (`stage upload ended`). It prints those that it saw.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from tests.emulators.door import DoorStore
from tests.engine.lab import Lab
from tests.remote.gear import lasting, shell
from torpor.control import granting
from torpor.events import Event
from torpor.jobs import Ask, Grant
from torpor.ssh.base import Channel, Ran
from torpor.storage.local import LocalStore
from torpor.storage.wrapper import Wrapper

T = TypeVar("T")


class Moments:
    def __init__(self, moment: str, nth: int, after: bool) -> None:
        self._moment, self._left, self._after = moment, nth, after
        self._lock = threading.Lock()
        self.log: list[str] = []

    def run(self, what: str, call: Callable[[], T]) -> T:
        with self._lock:
            self.log.append(what)
            mine = bool(self._moment) and what.startswith(self._moment)
            self._left -= mine
            now = mine and self._left == 0
        if now and not self._after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = call()
        if now:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


class Store(Wrapper):
    def __init__(self, inner: DoorStore, moments: Moments) -> None:
        super().__init__(inner)
        self._moments = moments

    def run(self, operation: str, name: str, call: Callable[[], T]) -> T:
        return self._moments.run(f"{operation} {name}", call)


class Shell:
    def __init__(self, inner: Any, moments: Moments) -> None:
        self._inner, self._moments = inner, moments

    def run(self, command: str, stdin: bytes | IO[bytes] = b"", seconds: float = 60.0) -> Ran:
        what = "forget" if command.startswith("rm ") or " forget " in command else "other"
        ran: Ran = self._moments.run(f"run {what}", lambda: self._inner.run(command, stdin, seconds))
        return ran

    def open(self, command: str) -> Channel:
        what = "attach" if " attach " in command else "serve"
        channel: Channel = self._moments.run(f"open {what}", lambda: self._inner.open(command))
        return channel

    def close(self) -> None:
        self._inner.close()


def main() -> None:
    job = json.loads(sys.argv[1])
    moments = Moments(job["moment"], job["nth"], job["after"])
    folder = Path(job["lab"])
    lab = Lab(folder, store=LocalStore(str(folder.parent / "store")))
    lab.repository.store = Store(DoorStore(str(folder.parent / "store"), job["door"], few=2), moments)
    for kind in (granting.ForSnapshot, granting.ForRestore):
        _count_questions(kind, moments)

    def hear(event: Event) -> None:
        if event.kind != "progress":
            moments.run(f"{event.kind} {event.stage} {event.state}".strip(), lambda: None)

    lab.host = lasting(lab, through=Shell(shell(folder / "login"), moments))
    if job["do"] == "take":
        lab.take(os.fsencode(job["path"]), listen=hear)
    else:
        lab.restore(os.fsencode(job["path"]), machine="a", listen=hear)
    sys.stdout.write(json.dumps(moments.log))


def _count_questions(kind: Any, moments: Moments) -> None:
    more = kind.more

    def counted(self: Any, wish: Ask) -> Grant:
        grant: Grant = moments.run("ask", lambda: more(self, wish))
        return grant

    kind.more = counted


if __name__ == "__main__":
    main()
