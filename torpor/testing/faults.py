"""Faults that come in through the front door: stores and transfers that fail by script, or "crash" at a counted operation.

A script is a string with one letter an operation, in the order of the calls; what comes after its end succeeds:

    r  runs
    E  fails, and nothing happened            (StorageUnavailable)
    A  happens, but the answer is lost        (StorageUnavailable)
    S  fails for want of space                (NoSpace)
    N  fails: there is no such object         (Missing)
    D  reads succeed with one bit flipped     (`get` and `get_into` alone)

It counts every operation, or, as a mapping, those of each kind apart: `{"put": "rrE", "get": "D"}`. A callable of
`(operation, name, number)` may return an exception to raise instead of the operation. Operations are named by their methods.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar, cast

from torpor.errors import NoSpace, StorageUnavailable
from torpor.storage.base import Missing, Store
from torpor.storage.transfer import PutInfo, Transfer
from torpor.storage.wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Buffer

    from torpor.jobs import Grant
    from torpor.storage.options import Counters
    from torpor.storage.transfer import More

T = TypeVar("T")
Script = str | Mapping[str, str] | Callable[[str, str, int], BaseException | None]

_LETTERS = frozenset("rEASND")
_READS = ("get", "get_into")


class Faults:
    """A script with its place in it. May be shared by several wrappers. `counts` is how often each operation was asked for."""

    def __init__(self, script: Script) -> None:
        texts = [script] if isinstance(script, str) else list(script.values()) if isinstance(script, Mapping) else []
        if not _LETTERS.issuperset("".join(texts)):
            raise ValueError(f"a script is written with the letters {''.join(sorted(_LETTERS))}")
        self.counts: Counter[str] = Counter()
        self._script = script
        self._lock = threading.Lock()

    def run(self, operation: str, name: str, call: Callable[[], T], out: memoryview | None = None) -> T:
        """Do the operation as the script has it. `out` is what `get_into` fills."""
        letter = self._next(operation, name)
        if letter == "E":
            raise StorageUnavailable(f"A fault was asked for before {operation} {name}.")
        if letter == "S":
            raise NoSpace(f"A full disk was asked for at {operation} {name}.")
        if letter == "N":
            raise Missing(f"An absence was asked for at {operation} {name}.")
        if letter == "D" and operation not in _READS:
            raise ValueError(f"{operation} reads nothing that could be damaged")
        result = call()
        if letter == "A":
            raise StorageUnavailable(f"A fault was asked for after {operation} {name}.")
        if letter == "D" and out is not None:
            out[len(out) // 2] ^= 1
        elif letter == "D":
            data = bytearray(cast("bytes", result))
            data[len(data) // 2] ^= 1
            result = cast("T", bytes(data))
        return result

    def _next(self, operation: str, name: str) -> str:
        with self._lock:
            self.counts[operation] += 1
            if callable(self._script):
                error = self._script(operation, name, self.counts.total())
                if error is not None:
                    raise error
                return "r"
            if isinstance(self._script, str):
                text, number = self._script, self.counts.total()
            else:
                text, number = self._script.get(operation, ""), self.counts[operation]
            return text[number - 1] if number <= len(text) else "r"


class FaultyStore(Wrapper):
    """`store`, failing by `script`. Its place in the script is `faults`, which can be given to share it."""

    def __init__(self, store: Store, script: Script | Faults) -> None:
        super().__init__(store)
        self.faults = script if isinstance(script, Faults) else Faults(script)

    def run(self, operation: str, name: str, call: Callable[[], T]) -> T:
        return self.faults.run(operation, name, call)

    def get_into(self, name: str, start: int, out: memoryview) -> None:
        self.faults.run("get_into", name, lambda: self.inner.get_into(name, start, out), out)


class TransferWrapper(Transfer):
    """A transfer around a transfer: every call passes through `run`."""

    def __init__(self, inner: Transfer) -> None:
        self.inner = inner
        super().__init__(inner.grant)

    @property
    def more(self) -> More:
        return self.inner.more

    @more.setter
    def more(self, more: More) -> None:
        self.inner.more = more

    def run(self, operation: str, name: str, call: Callable[[], T]) -> T:
        return call()

    def renew(self, grant: Grant) -> None:
        super().renew(grant)
        self.inner.renew(grant)

    def put(self, name: str, parts: Sequence[Buffer], blake3: bytes) -> PutInfo:
        return self.run("put", name, lambda: self.inner.put(name, parts, blake3))

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        return self.run("get", name, lambda: self.inner.get(name, start, length))

    def get_into(self, name: str, start: int, out: memoryview) -> None:
        self.run("get_into", name, lambda: self.inner.get_into(name, start, out))

    def sync(self, names: Iterable[str]) -> None:
        chosen = [*names]
        self.run("sync", "", lambda: self.inner.sync(chosen))

    def counters(self) -> Counters:
        return self.inner.counters()

    def close(self) -> None:
        self.inner.close()


class FaultyTransfer(TransferWrapper):
    """`transfer`, failing by `script`, as `FaultyStore`."""

    def __init__(self, transfer: Transfer, script: Script | Faults) -> None:
        super().__init__(transfer)
        self.faults = script if isinstance(script, Faults) else Faults(script)

    def run(self, operation: str, name: str, call: Callable[[], T]) -> T:
        return self.faults.run(operation, name, call)

    def get_into(self, name: str, start: int, out: memoryview) -> None:
        self.faults.run("get_into", name, lambda: self.inner.get_into(name, start, out), out)


class Crash(BaseException):
    """The process is gone, as after SIGKILL. No `except Exception` sees it."""


class CrashPoint:
    """Crashes at operation number `at` (from 1; 0 never), before it or, with `after`, once it took effect.

    A dead process does nothing more: from then on every operation raises `Crash`, so that what is in a `finally` cannot help.
    `count` is how many operations were begun, `log` what they were: a run with `at=0` says how many crash points there are.
    May be shared by several wrappers.
    """

    def __init__(self, at: int = 0, *, after: bool = False) -> None:
        self.at = at
        self.after = after
        self.count = 0
        self.dead = False
        self.log: list[str] = []
        self._lock = threading.Lock()

    def run(self, operation: str, name: str, call: Callable[[], T]) -> T:
        with self._lock:
            if self.dead:
                raise Crash(f"dead since operation {self.at}")
            self.count += 1
            self.log.append(f"{operation} {name}".rstrip())
            mine = self.count == self.at
            self.dead = mine and not self.after
        if self.dead:
            raise Crash(f"before operation {self.at}: {operation} {name}")
        try:
            return call()
        finally:
            if mine:  # whatever its answer was
                self.dead = True
                raise Crash(f"after operation {self.at}: {operation} {name}")


class CrashStore(Wrapper):
    """`store`, crashing at operation `at`. Its counter is `point`, which can be given to share it."""

    def __init__(self, store: Store, at: int = 0, *, after: bool = False, point: CrashPoint | None = None) -> None:
        super().__init__(store)
        self.point = point or CrashPoint(at, after=after)

    @property
    def count(self) -> int:
        return self.point.count

    def run(self, operation: str, name: str, call: Callable[[], T]) -> T:
        return self.point.run(operation, name, call)


class CrashTransfer(TransferWrapper):
    """`transfer`, crashing at operation `at`, as `CrashStore`."""

    def __init__(self, transfer: Transfer, at: int = 0, *, after: bool = False, point: CrashPoint | None = None) -> None:
        super().__init__(transfer)
        self.point = point or CrashPoint(at, after=after)

    @property
    def count(self) -> int:
        return self.point.count

    def run(self, operation: str, name: str, call: Callable[[], T]) -> T:
        return self.point.run(operation, name, call)
