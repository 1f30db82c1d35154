"""Hosts on this computer whose connections break when a test says so."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from tests.engine.lab import Lab
from torpor.jobs import Grant
from torpor.remote.lasting import LastingHost
from torpor.ssh.base import Channel, Dropped, Ran, Shell
from torpor.ssh.local import LocalShell

ROOT = Path(__file__).parents[2]
SMALL = (sys.executable, str(ROOT / "tests/remote/small.py"))
MOST = 6


def shell(home: Path) -> LocalShell:
    """Commands on this computer that see no setting of ours."""
    home.mkdir(parents=True, exist_ok=True)
    return LocalShell({"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT)})


def lasting(lab: Lab, machine: str = "a", through: Shell | None = None, **options: Any) -> LastingHost:
    """A host with the records of `machine`, at the address `test:<machine>`. It waits for nothing between tries."""
    options.setdefault("pause", lambda _: None)
    return LastingHost(through or shell(lab.folder / "login"), SMALL, lab.state(machine), f"test:{machine}", **options)


class CuttingShell:
    """A shell whose channels to long jobs break by a script, a letter for each line that is read or written and each channel opened:

    r  runs
    E  breaks before it
    A  breaks after it: the host has got the line, or sent it for nothing
    P  breaks amid a line that is read
    H  breaks on this side alone: the host's end stays as it is, and nobody is there

    What comes after its end is as `repeat` says, until the connection broke MOST times; then all runs. `log` is what was done.
    """

    def __init__(self, inner: Shell, script: str = "", repeat: str = "") -> None:
        self._inner = inner
        self._script = script
        self._repeat = repeat
        self._lock = threading.Lock()
        self.log: list[str] = []
        self.breaks = 0
        self.left: list[Channel] = []  # nobody is there any more, and nobody has told them

    def run(self, command: str, stdin: bytes | IO[bytes] = b"", seconds: float = 60.0) -> Ran:
        return self._inner.run(command, stdin, seconds)

    def open(self, command: str) -> Channel:
        if " attach " not in command:
            return self._inner.open(command)
        if self.next("open") != "r":
            self.breaks += 1
            raise Dropped("The test cut the connection before it was there.")
        return CutChannel(self._inner.open(command), self)

    def close(self) -> None:
        for channel in self.left:
            channel.close()
        self._inner.close()

    def next(self, what: str) -> str:
        with self._lock:
            number = len(self.log)
            self.log.append(what)
            if number < len(self._script):
                return self._script[number]
            if self.breaks >= MOST:
                return "r"
            return self._repeat[(number - len(self._script)) % len(self._repeat)] if self._repeat else "r"


class CutChannel:
    def __init__(self, inner: Channel, by: CuttingShell) -> None:
        self._inner = inner
        self._by = by
        self._broken = self._half = False
        self.stdin: Any = self
        self.out: Any = self

    def readline(self, limit: int = -1) -> bytes:
        letter = "E" if self._broken else self._by.next("read")
        if letter in "EH":
            self._break(half=letter == "H")
        text = self._inner.out.readline(limit)
        if letter == "A":
            self._break()
        if letter == "P":
            self._cut()
            return text[: len(text) // 2]
        return text

    def write(self, data: bytes) -> None:
        letter = "E" if self._broken else self._by.next("write")
        if letter in "EPH":
            self._break(half=letter == "H")
        self._inner.stdin.write(data)
        self._inner.stdin.flush()
        if letter == "A":
            self._break()

    def flush(self) -> None:
        """`write` did."""

    def wait(self, seconds: float) -> int:
        if self._broken:
            raise Dropped("The test cut the connection.")
        return self._inner.wait(seconds)

    def close(self) -> None:
        if not self._half:
            self._inner.close()

    def _break(self, half: bool = False) -> None:
        self._half = self._half or half
        self._cut()
        raise Dropped("The test cut the connection.")

    def _cut(self) -> None:
        if not self._broken:
            self._broken = True
            self._by.breaks += 1
            if self._half:
                self._by.left.append(self._inner)
            else:
                self._inner.close()


def files_below(folder: Path) -> dict[Path, bytes]:
    """What a host has on its disk."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def at_ask(lab: Lab, number: int, action: Callable[[], object]) -> None:
    """Do something when the host asks for the so-many-th time, before it is answered."""
    store: Any = lab.repository.store
    count = 0
    grant = store.grant_put

    def counted(prefix: str, expires: float, names: Any = ()) -> Grant:
        nonlocal count
        count += 1
        if count == number + 1:  # the first is given without being asked for
            action()
        found: Grant = grant(prefix, expires, names)
        return found

    store.grant_put = counted
