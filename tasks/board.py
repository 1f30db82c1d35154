"""What a running job says of its stages: fed by its events, waited for by the tasks that stand for them."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from tasks.words import amount, rate
from torpor.events import Event


@dataclass(frozen=True)
class Figures:
    """One stage so far. `began`, `at`: seconds since the job began; `done` and `total` in `unit`; a total of 0 is not known."""

    began: float = 0.0
    at: float = 0.0
    done: int = 0
    total: int = 0
    unit: str = "bytes"
    ended: bool = False

    @property
    def seconds(self) -> float:
        return round(max(0.0, self.at - self.began), 3)

    @property
    def percent(self) -> float:
        if self.ended:
            return 100.0
        return round(min(100.0, 100.0 * self.done / self.total), 1) if self.total else 0.0

    def __add__(self, other: Figures) -> Figures:
        """Two jobs' figures of one stage, as if one had followed the other."""
        seconds = self.seconds + other.seconds
        return Figures(0.0, seconds, self.done + other.done, self.total + other.total, self.unit, self.ended and other.ended)

    def __str__(self) -> str:
        """Such as `1.2 GiB in 3.4 s, 361 MiB/s`."""
        pace = rate(self.done, self.seconds, self.unit)
        return f"{amount(self.done, self.unit)} in {self.seconds:.1f} s" + (f", {pace}" if pace else "")


class StageBoard:
    """Thread-safe. One board a job; a job that is tried again writes over what the attempt before it said."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._figures: dict[str, Figures] = {}
        self._over = False
        self._failure: BaseException | None = None

    def listen(self, event: Event) -> None:
        """The job's listener."""
        if event.kind not in ("stage", "progress"):
            return
        with self._changed:
            known = self._figures.get(event.stage)
            if event.state == "started" or known is None:
                known = Figures(event.at, event.at, unit=event.unit)
            if event.state != "started":
                known = Figures(known.began, event.at, event.done, event.total, event.unit, event.state == "ended")
            self._figures[event.stage] = known
            self._changed.notify_all()

    def finish(self, failure: BaseException | None = None) -> None:
        """The job is over: nobody waits any longer. The first outcome counts."""
        with self._changed:
            if not self._over:
                self._over, self._failure = True, failure
            self._changed.notify_all()

    def wait(self, stage: str, timeout: float) -> tuple[Figures, bool]:
        """A stage's figures, and whether it is over; after at most `timeout` seconds. Raises what made the job fail."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._ended(stage), timeout)
            if self._failure is not None and not self._ended(stage):
                raise self._failure
            return self.figures(stage), self._over or self._ended(stage)

    def _ended(self, stage: str) -> bool:
        known = self._figures.get(stage)
        return known is not None and known.ended

    def figures(self, stage: str) -> Figures:
        return self._figures.get(stage, Figures())

    def take(self) -> dict[str, Figures]:
        """All stages by name; the board is empty afterwards."""
        with self._changed:
            taken, self._figures = self._figures, {}
            return taken
