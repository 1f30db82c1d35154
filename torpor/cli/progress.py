"""Shows a running job: bars on a terminal, else a line now and then. What draws bars is imported once bytes are being read."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from torpor.cli import amounts

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.events import Event

FIRST_LINE, EVERY = 2.0, 5.0  # seconds until the first line, and between lines
EVERY_VERBOSE = 1.0
TICK = 0.1  # seconds between two looks of a terminal
_ORDER = ("open", "plan", "scan", "compare", "read", "compress", "upload", "download", "decompress", "write", "finish", "verify", "copy")
_BEFORE = ("scan", "plan", "compare", "open")  # stages that may run before the first byte is read
_CLEAR = "\r\x1b[K"


class Stage:
    """Where a stage stands. `done` and `total` in bytes or files; a total of 0 is not known. `began`, `at`: seconds of the job."""

    __slots__ = ("at", "began", "done", "ended", "name", "total", "unit")

    def __init__(self, event: Event) -> None:
        self.name = event.stage
        self.unit = event.unit
        self.began = event.at
        self.ended = False
        self.take(event)

    def take(self, event: Event) -> None:
        self.done = event.done
        self.total = max(event.total, event.done) if event.total else 0
        self.at = event.at
        self.ended = event.state == "ended"

    @property
    def speed(self) -> float:
        """Amount a second since the stage began."""
        return self.done / max(self.at - self.began, 1e-3)

    def amount(self) -> str:
        """`1.20 GB of 4.00 GB`, `1,234 files`."""
        if self.unit == "files":
            return amounts.count(self.done, "file")
        whole = f" of {amounts.size(self.total)}" if self.total and not self.ended else ""
        return amounts.size(self.done) + whole

    def pace(self) -> str:
        """Speed, and the time that is left if a total is known: of bytes only."""
        if self.unit == "files" or not self.done:
            return ""
        known = self.total and not self.ended and 50 * self.done > self.total and self.at - self.began > 1
        left = (self.total - self.done) / self.speed if known else 0
        return f"{amounts.size(self.speed)}/s" + (f", {amounts.seconds(left)} left" if left >= 1 else "")


def _place(stage: Stage) -> int:
    """Where a stage stands on a screen; one that nobody knows comes last."""
    return _ORDER.index(stage.name) if stage.name in _ORDER else len(_ORDER)


class Display:
    """Listens to one job. Events come on any thread; `close` is called once the job is over, however it ended."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stages: dict[str, Stage] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._reading = False
        self._texts: list[str] = []  # notes for the thread that owns the terminal
        shown = session.progress and not session.quiet
        terminal = shown and sys.stderr.isatty() and not session.verbose
        self._lines = shown and not terminal
        self._every = EVERY_VERBOSE if session.verbose else EVERY
        self._next = EVERY_VERBOSE if session.verbose else FIRST_LINE
        self._thread = threading.Thread(target=self._draw, name="progress", daemon=True) if terminal else None
        self._started = False

    def event(self, event: Event) -> None:
        """Take note of an event; nothing here takes long."""
        if event.kind == "note":
            self._tell(f"warning: {event.text}" if event.level == "warning" else event.text, event.level == "warning")
        elif event.kind == "usable":
            self._tell(f"usable after {amounts.seconds(event.at)}", False)
        elif event.kind == "first_byte":
            self._reading = True
        else:
            self._stage(event)

    def _stage(self, event: Event) -> None:
        with self._lock:
            stage = self._stages.get(event.stage)
            if stage is None or event.state == "started":
                stage = self._stages[event.stage] = Stage(event)
            else:
                stage.take(event)
            self._reading = self._reading or (event.done > 0 and event.stage not in _BEFORE)
            start = self._thread is not None and not self._started and event.kind == "progress"
            self._started = self._started or start
        if start and self._thread is not None:
            self._thread.start()
        if event.kind == "stage":
            self._session.detail(f"{event.at:8.2f} s  {event.stage} {event.state}" + (f": {stage.amount()}" if event.done else ""))
        elif self._lines and event.at >= self._next and (line := self._line()):
            self._next = event.at + self._every
            print(line, file=sys.stderr, flush=True)

    def _line(self) -> str:
        """All stages that have begun, in one line."""
        open_stages = [stage for stage in self._stages.values() if stage.done and not stage.ended]
        pace = next((stage.pace() for stage in open_stages if stage.total and stage.pace()), "")
        return ", ".join(f"{stage.name} {stage.amount()}" for stage in open_stages) + (f" ({pace})" if pace else "")

    def _tell(self, text: str, always: bool) -> None:
        if self._session.quiet and not always:
            return
        with self._lock:
            if self._started:
                self._texts.append(text)
                return
        print(text, file=sys.stderr, flush=True)

    def _taken(self) -> list[str]:
        with self._lock:
            texts, self._texts = self._texts, []
        return texts

    def _draw(self) -> None:
        """The terminal's thread: one plain line until bytes are read, bars from then on."""
        while not self._reading:
            if self._closed.wait(TICK):
                return
            texts = "".join(f"{text}\n" for text in self._taken())
            sys.stderr.write(f"{_CLEAR}{texts}{self._line()[:70]}")
            sys.stderr.flush()
        if self._closed.wait(3 * TICK):  # a short job is over by then, and rich takes a while to load
            return
        sys.stderr.write(_CLEAR)
        from torpor.cli.bars import Bars

        bars = Bars()
        while not self._closed.wait(TICK):
            bars.show(sorted(self._stages.values(), key=_place), self._taken())
        bars.close()

    def close(self) -> None:
        """Leave the terminal clean."""
        self._closed.set()
        if self._started and self._thread is not None:
            self._thread.join()
            sys.stderr.write(_CLEAR)
        self._started = False
        for text in self._taken():
            print(text, file=sys.stderr)
