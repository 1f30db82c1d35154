"""Progress and notes of a running job: separate from logs, one JSON object a line when they cross a process boundary.

Stages of a snapshot: scan, read, compress, upload. Of a restore: plan, download, decompress, write. Before either, of a host that is
made ready: bootstrap.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

import msgspec

Kind = Literal["stage", "progress", "note", "usable", "first_byte"]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`at`: seconds since the job began. `done`/`total`: bytes or files of `stage`, with `unit`. `text` of notes is for people."""

    kind: Kind
    at: float
    stage: str = ""
    state: Literal["", "started", "ended"] = ""
    done: int = 0
    total: int = 0
    unit: Literal["bytes", "files"] = "bytes"
    level: Literal["info", "warning"] = "info"
    text: str = ""


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A listener that drops everything."""


class Stage:
    """One stage's counters. `add` is cheap and thread-safe; busy seconds are summed over threads."""

    __slots__ = ("_lock", "_progress", "busy", "done", "name", "total", "unit")

    def __init__(self, name: str, progress: Progress, unit: Literal["bytes", "files"]) -> None:
        self.name = name
        self.unit: Literal["bytes", "files"] = unit
        self.done = 0
        self.total = 0
        self.busy = 0.0
        self._lock = threading.Lock()
        self._progress = progress

    def add(self, amount: int, busy: float = 0.0) -> None:
        with self._lock:
            self.done += amount
            self.busy += busy
        self._progress.tick()

    def expect(self, amount: int) -> None:
        with self._lock:
            self.total += amount


class Progress:
    """Collects the stages of one job and tells the listener at most `rate` times a second."""

    def __init__(self, listener: Listener, rate: float = 10.0) -> None:
        self._listener = listener
        self._every = 1.0 / rate
        self._next = 0.0
        self._lock = threading.Lock()
        self.began = time.monotonic()
        self.stages: dict[str, Stage] = {}
        self._open: set[str] = set()

    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def stage(self, name: str, unit: Literal["bytes", "files"] = "bytes") -> Stage:
        """Start a stage, or return it if it was started."""
        if name not in self.stages:
            self.stages[name] = Stage(name, self, unit)
            self._open.add(name)
            self._listener(Event(kind="stage", at=self.elapsed(), stage=name, state="started", unit=unit))
        return self.stages[name]

    def end(self, name: str) -> None:
        if name in self._open:
            self._open.discard(name)
            stage = self.stages[name]
            self._listener(
                Event(
                    kind="stage", at=self.elapsed(), stage=name, state="ended",
                    done=stage.done, total=stage.total or stage.done, unit=stage.unit,
                )
            )  # fmt: skip

    def tick(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        with self._lock:
            if now < self._next:
                return
            self._next = now + self._every
            for name in list(self._open):
                stage = self.stages[name]
                self._listener(
                    Event(
                        kind="progress", at=now - self.began, stage=name,
                        done=stage.done, total=stage.total, unit=stage.unit,
                    )
                )  # fmt: skip

    def note(self, text: str, level: Literal["info", "warning"] = "info") -> None:
        self._listener(Event(kind="note", at=self.elapsed(), text=text, level=level))

    def moment(self, kind: Literal["usable", "first_byte"]) -> float:
        """Report that something was reached; returns the seconds since the job began."""
        at = self.elapsed()
        self._listener(Event(kind=kind, at=at))
        return at

    def busy(self) -> dict[str, float]:
        """Busy seconds by stage, summed over threads."""
        return {name: round(stage.busy, 3) for name, stage in self.stages.items()}
