"""A bare host on this computer: real shells and real processes, in an environment that has nothing of this one's."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from torpor.ssh.base import Channel, Dropped
from torpor.ssh.local import LocalShell


class Bare(LocalShell):
    """Counts round trips. `limit`: of the size of files that commands write, in blocks of 512 bytes."""

    def __init__(self, home: Path, limit: int = 0) -> None:
        home.mkdir(exist_ok=True)
        here = os.path.dirname(os.path.realpath(sys.executable))
        super().__init__({"HOME": str(home), "PATH": f"/usr/bin:/bin:{here}", "LANG": "C"})
        self.home = home
        self.base = home / ".torpor" / "engines"
        self.trips = 0
        self._before = f"ulimit -f {limit}; " if limit else ""

    def open(self, command: str) -> Channel:  # type: ignore[override]
        self.trips += 1
        return super().open(self._before + command)


class Flaky(Bare):
    """Breaks each channel that is written to, after as many bytes as `cuts` says, one after the other; then no more."""

    def __init__(self, home: Path, cuts: list[int]) -> None:
        super().__init__(home)
        self.cuts = cuts

    def open(self, command: str) -> Channel:  # type: ignore[override]
        return _Cut(super().open(command), self.cuts) if self.cuts and "upload" in command else super().open(command)


@dataclass
class _Cut:
    """A channel with its own end, as a connection has that breaks."""

    whole: Channel
    cuts: list[int]
    stdin: IO[bytes] = field(init=False)
    out: IO[bytes] = field(init=False)
    broken: bool = False

    def __post_init__(self) -> None:
        self.left = self.cuts.pop(0)
        self.stdin = self.out = self  # type: ignore[assignment]

    def write(self, data: bytes) -> int:
        if self.broken:
            raise BrokenPipeError
        part = data[: self.left]
        self.whole.stdin.write(part)
        self.left -= len(part)
        if len(part) < len(data):
            self.broken = True
            self.whole.stdin.close()
            raise BrokenPipeError
        return len(data)

    def flush(self) -> None:
        self.whole.stdin.flush()

    def readline(self, limit: int = -1) -> bytes:
        return b"" if self.broken else self.whole.out.readline(limit)

    def wait(self, seconds: float) -> int:
        if self.broken:
            self.whole.wait(20)  # so that what arrived is written: a test must not depend on who is quicker
            raise Dropped("The connection broke.")
        return self.whole.wait(seconds)

    def close(self) -> None:
        self.whole.close()


class Garbling(Bare):
    """Turns a bit of each bundle that is sent."""

    def open(self, command: str) -> Channel:  # type: ignore[override]
        channel = super().open(command)
        if "upload" in command:
            channel.stdin = _Garbled(channel.stdin)  # type: ignore[assignment]
        return channel


@dataclass
class _Garbled:
    whole: IO[bytes]
    done: bool = False

    def write(self, data: bytes) -> int:
        if not self.done:
            data = data[:99] + bytes([data[99] ^ 1]) + data[100:]
            self.done = True
        return self.whole.write(data)

    def flush(self) -> None:
        self.whole.flush()

    def close(self) -> None:
        self.whole.close()
