"""Several actors on one store, one operation at a time: the test decides who goes next, so it can have any interleaving, and have it again.

    stepper = Stepper()
    store = SteppedStore(MemoryStore(), stepper)
    one = stepper.start("one", lambda: prune.prune(repository_over(store)))
    two = stepper.start("two", lambda: snapshots.take(…))
    stepper.step(one); stepper.step(two); stepper.crash(one); stepper.finish(two)

Each actor has a thread of its own and stands still before each of its operations until it is let go. Nothing sleeps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from torpor.storage.base import Store
from torpor.storage.wrapper import Wrapper
from torpor.testing.faults import Crash

T = TypeVar("T")
PATIENCE = 60.0  # seconds an actor may take between two operations


class Actor:
    """One thread under the stepper's control. `pending` is the operation it stands before; None once it has ended."""

    def __init__(self, name: str, call: Callable[[], object]) -> None:
        self.name = name
        self.pending: tuple[str, str] | None = None
        self.steps = 0
        self.result: object = None
        self.error: BaseException | None = None
        self.crashed = False
        self.crash_after = False
        self.go = threading.Semaphore(0)
        self.stands = threading.Semaphore(0)
        self.thread = threading.Thread(target=self._run, args=(call,), name=name, daemon=True)

    @property
    def ended(self) -> bool:
        return self.pending is None

    def _run(self, call: Callable[[], object]) -> None:
        _current.actor = self
        try:
            self.result = call()
        except BaseException as error:  # noqa: BLE001 - kept for the test, which looks at it
            self.error = error
        self.pending = None
        self.stands.release()

    def meet(self, operation: str, name: str, call: Callable[[], T]) -> T:
        """Called by the store, on the actor's thread: wait for leave, then do the operation."""
        if self.crashed:
            raise Crash(f"{self.name} is dead")
        self.pending = (operation, name)
        self.stands.release()
        self.go.acquire()
        if self.crashed:
            raise Crash(f"{self.name} died before {operation} {name}")
        result = call()
        if self.crash_after:
            self.crashed = True
            raise Crash(f"{self.name} died after {operation} {name}")
        return result


class _Current(threading.local):
    actor: Actor | None = None


_current = _Current()


class Stepper:
    """The scheduler. All methods are for the test's own thread."""

    def __init__(self) -> None:
        self.actors: list[Actor] = []

    def start(self, name: str, call: Callable[[], object]) -> Actor:
        """Run `call` up to its first operation."""
        actor = Actor(name, call)
        self.actors.append(actor)
        actor.thread.start()
        self._wait(actor)
        return actor

    def step(self, actor: Actor) -> bool:
        """Let it do one operation, and run up to the next. False if it has ended."""
        if actor.ended:
            return False
        actor.steps += 1
        actor.go.release()
        self._wait(actor)
        return not actor.ended

    def crash(self, actor: Actor, *, after: bool = False) -> None:
        """It dies before the operation it stands before, or right after it. Nothing it does from then on reaches the store."""
        if actor.ended:
            return
        if after:
            actor.crash_after = True
        else:
            actor.crashed = True
        while not actor.ended:
            actor.go.release()
            self._wait(actor)

    def until(self, actor: Actor, operation: str, prefix: str = "") -> bool:
        """Step until it stands before such an operation; False if it ended without one."""
        while actor.pending is not None:
            if actor.pending[0] == operation and actor.pending[1].startswith(prefix):
                return True
            self.step(actor)
        return False

    def finish(self, actor: Actor) -> object:
        """Step to its end; what it returned. Raises what it raised."""
        while self.step(actor):
            continue
        actor.thread.join(PATIENCE)
        if actor.error is not None:
            raise actor.error
        return actor.result

    def end(self) -> None:
        """Crash whoever still stands somewhere."""
        for actor in self.actors:
            self.crash(actor)
            actor.thread.join(PATIENCE)

    @staticmethod
    def _wait(actor: Actor) -> None:
        if not actor.stands.acquire(timeout=PATIENCE):
            raise TimeoutError(f"{actor.name} neither reached its next operation nor ended within {PATIENCE:.0f} s")


class SteppedStore(Wrapper):
    """`store`, whose operations wait for the stepper on an actor's thread. On any other thread they go through."""

    def __init__(self, store: Store, stepper: Stepper) -> None:
        super().__init__(store)
        self.stepper = stepper

    def delete(self, names: Iterable[str]) -> int:
        """One step an object: no store promises to remove several at once."""
        return sum(self.run("delete", name, partial(self.inner.delete, [name])) for name in names)

    def run(self, operation: str, name: str, call: Callable[[], T]) -> T:
        actor = _current.actor
        return call() if actor is None else actor.meet(operation, name, call)
