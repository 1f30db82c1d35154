"""Threads that work through a bounded queue, stop at the first failure, and can be called off."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from mmap import mmap
from types import TracebackType
from typing import Generic, TypeVar

from torpor.pages import pages

_SIGNAL = 0.5  # seconds


class Stopped(Exception):
    """Raised inside a thread whose job has failed or was called off; the first cause is kept in `Stop`."""


class Gate(threading.Condition):
    """A condition that may be left by an exception which a signal raises between letting go of the lock and waiting.

    The lock is then not held any more, and trying to release it must not hide what happened. It must be a lock that knows its owner.
    Whoever waits looks again at what he waits for: a wait may end without cause.
    """

    def wait(self, timeout: float | None = None) -> bool:
        """The main thread waits a while only: of a signal that comes just before a wait, Python tells when that has ended."""
        if timeout is None and threading.current_thread() is threading.main_thread():
            timeout = _SIGNAL
        return super().wait(timeout)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            super().__exit__(kind, error, trace)
        except RuntimeError:
            if kind is None:
                raise


class Stop:
    """Shared by all threads of a job: the first failure, and the wish to end early."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._conditions: list[threading.Condition] = []
        self.cause: BaseException | None = None

    def watch(self, condition: threading.Condition) -> None:
        """Wake this condition when the job stops."""
        self._conditions.append(condition)

    def fail(self, cause: BaseException) -> None:
        with self._lock:
            if self.cause is None and not isinstance(cause, Stopped):
                self.cause = cause
        for condition in self._conditions:
            with condition:
                condition.notify_all()

    def check(self) -> None:
        if self.cause is not None:
            raise Stopped

    def raise_cause(self) -> None:
        if self.cause is not None:
            raise self.cause


class Pool:
    """At most `limit` buffers of `size` bytes, handed out and taken back; `take` waits.

    They are mapped, not allocated: memory is taken page by page as it is written, and a small job never touches most of it.
    """

    def __init__(self, limit: int, size: int, stop: Stop) -> None:
        self._limit = limit
        self._size = size
        self._free: list[mmap] = []
        self._made = 0
        self._condition = Gate()
        self._stop = stop
        stop.watch(self._condition)

    def take(self) -> mmap:
        with self._condition:
            while True:
                self._stop.check()
                if self._free:
                    return self._free.pop()
                if self._made < self._limit:
                    self._made += 1
                    return pages(self._size)
                self._condition.wait()

    def give(self, buffer: mmap) -> None:
        with self._condition:
            self._free.append(buffer)
            self._condition.notify()


T = TypeVar("T")


class Crew(Generic[T]):
    """`count` threads that call the work put to them; `put` waits while `depth` pieces are queued.

    `setup` runs once in each thread; what it returns is passed to each piece of work.
    """

    def __init__(self, name: str, count: int, depth: int, stop: Stop, setup: Callable[[], T]) -> None:
        self._queue: deque[Callable[[T], None]] = deque()
        self._depth = depth
        self._stop = stop
        # One lock, and whoever waits is woken for what he waits for: all at once would mostly wake those who can do nothing.
        lock = threading.RLock()
        self._work, self._room, self._rest = (Gate(lock) for _ in range(3))
        self._closed = False
        self._running = 0
        self._alive = count
        for condition in (self._work, self._room, self._rest):
            stop.watch(condition)
        self._threads = [threading.Thread(target=self._loop, args=(setup,), name=f"{name}-{i}", daemon=True) for i in range(count)]
        for thread in self._threads:
            thread.start()

    def grow(self, name: str, setups: Sequence[Callable[[], T]], wanted: Callable[[], bool]) -> None:
        """More threads for the same queue, one for each of `setups`; they take no more work once `wanted` says no."""
        with self._work:
            if self._closed or self._stop.cause is not None:
                return
            self._alive += len(setups)
            self._threads += [
                threading.Thread(target=self._loop, args=(setup, wanted), name=f"{name}-{i}", daemon=True) for i, setup in enumerate(setups)
            ]
        for thread in self._threads[-len(setups) :]:
            thread.start()

    def put(self, work: Callable[[T], None]) -> None:
        with self._room:
            while len(self._queue) >= self._depth:
                self._stop.check()
                self._room.wait()
            self._stop.check()
            self._queue.append(work)
            self._work.notify()

    def finish(self) -> None:
        """No more work will come: wait for what is queued, then end. Raises the first failure."""
        self._close()
        self._wait()
        self._stop.raise_cause()

    def drain(self) -> None:
        """Wait until everything put so far is done. Raises the first failure."""
        with self._rest:
            while (self._queue or self._running) and self._stop.cause is None:
                self._rest.wait()
        self._stop.raise_cause()

    def call_off(self) -> None:
        """Drop queued work and end; work in hand sees `Stop`."""
        with self._work:
            self._queue.clear()
            self._room.notify_all()
        self._close()
        self._wait()

    def _close(self) -> None:
        with self._work:
            self._closed = True
            self._work.notify_all()

    def _wait(self) -> None:
        """Wait until all threads have ended. A signal may break it off, and it may be called again.

        Not by joining them alone: until Python 3.13 a join that is broken off by an exception takes the thread for ended.
        """
        with self._rest:
            while self._alive:
                self._rest.wait()
        for thread in self._threads:  # out of their work, they need a moment to be gone
            thread.join()

    def _take(self, wanted: Callable[[], bool] | None) -> Callable[[T], None] | None:
        with self._work:
            while True:
                if self._stop.cause is not None:
                    return None
                if wanted is not None and not wanted():
                    self._work.notify()  # whoever woke this thread meant one that works
                    return None
                if self._queue:
                    self._running += 1
                    work = self._queue.popleft()
                    self._room.notify()
                    return work
                if self._closed:
                    return None
                self._work.wait()

    def _loop(self, setup: Callable[[], T], wanted: Callable[[], bool] | None = None) -> None:
        try:
            context = setup()
            while (work := self._take(wanted)) is not None:
                try:
                    work(context)
                finally:
                    with self._rest:
                        self._running -= 1
                        if not self._running and not self._queue:
                            self._rest.notify_all()
        except BaseException as error:  # noqa: BLE001 - every failure ends the job, and is raised again by finish or drain
            self._stop.fail(error)
        finally:
            with self._rest:
                self._alive -= 1
                self._rest.notify_all()
