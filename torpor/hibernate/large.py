"""Large files: opened once, cut into steps, their steps read and stored by any worker; checked for change at the end."""

from __future__ import annotations

import os
import stat
import threading
import time
from array import array
from typing import TYPE_CHECKING

from torpor.format import entries
from torpor.format.version import CLASS_LARGE
from torpor.hibernate.reading import TRIES, data_extents, same, take_attributes
from torpor.hibernate.tools import Shared, Worker
from torpor.hibernate.window import Window
from torpor.plan.cuts import TooLong, cut
from torpor.workspace.record import is_racy
from torpor.workspace.scan import Status, status_of
from torpor.workspace.walk import open_regular

if TYPE_CHECKING:
    from torpor.codecs.choose import Chooser

UNIT = 4  # steps one piece of work covers


class _Unreadable(Exception):
    """The file can't be read: not an error of the store, a codec or the machine, which ends the job."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.error = error


class LargeFile:
    """One large file on its way. `begin` plans it; `read` is called for stretches of its plan, on any thread."""

    def __init__(self, shared: Shared, window: Window, row: int, path: bytes, chooser: Chooser) -> None:
        self._shared = shared
        self._window = window
        self._row = row
        self._path = path
        self._chooser = chooser
        self._lock = threading.Lock()
        self._fd = -1
        self._tries = 0
        self._left = 0
        self._short = False

    def begin(self) -> list[tuple[int, int]]:
        """Open the file and plan its steps; stretches (first, count) of the plan are returned. Empty if it is settled already."""
        try:
            self._fd = open_regular(self._path)
            self._shared.opened.add(self._fd)
            return self._plan()
        except FileNotFoundError:
            self._give_up("vanished", "")
        except OSError as error:
            self._give_up("unreadable", error.strerror or "")
        return []

    def _give_up(self, kind: str, detail: str) -> None:
        self._shared.report(self._path, kind, detail)
        self._close()
        self._window.drop(self._row)

    def _close(self) -> None:
        if self._fd >= 0:
            self._shared.opened.discard(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _plan(self) -> list[tuple[int, int]]:
        self._tries += 1
        self._short = False
        self._looked_at = time.time_ns()
        self._before = status_of(os.fstat(self._fd))
        if not stat.S_ISREG(self._before.st_mode):
            self._give_up("vanished", "it became another kind of file")
            return []
        size = self._before.st_size
        if self._shared.gpu is not None:
            self._shared.gpu.expect(size)
        first, self._kind = self._chooser.begin(self._fd, size, self._path)
        self._extents = data_extents(self._fd, self._before)
        try:
            self._steps = cut(size, first, self._extents)
        except TooLong:
            self._give_up("unreadable", "it is larger than a file of a snapshot can be")
            return []
        self._refs = array("I", bytes(4 * len(self._steps)))
        if not self._steps:
            self._settle(None)
            return []
        stretches = [(at, min(UNIT, len(self._steps) - at)) for at in range(0, len(self._steps), UNIT)]
        self._left = len(stretches)
        return stretches

    def length(self, first: int, count: int) -> int:
        """Bytes that a stretch will read: holes cost nothing."""
        return sum(length for _, length, hole in map(self._steps.__getitem__, range(first, first + count)) if not hole)

    def stretch(self, first: int, count: int, worker: Worker) -> None:
        """`read`, in the order that a queue of work wants."""
        self.read(worker, first, count)

    def read(self, worker: Worker, first: int, count: int) -> None:
        """Read and store one stretch; the last one to end settles the file's row."""
        try:
            for number in range(first, first + count):
                offset, length, hole = self._steps[number]
                self._refs[number] = self._hole(length) if hole else self._step(worker, offset, length)
        except _Unreadable as failure:
            error = failure.error
            with self._lock:
                self._left -= 1
                failed = not self._short and self._fd >= 0
                self._short = True
                last = self._left == 0
            if failed:
                self._shared.report(self._path, "unreadable", error.strerror or "")
                self._window.block.type[self._row] = entries.ABSENT
            if last:
                self._close()
                self._window.drop(self._row)
            return
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._end(worker)

    def _hole(self, length: int) -> int:
        return self._shared.packer.hole(length)

    def _step(self, worker: Worker, offset: int, length: int) -> int:
        shared = self._shared
        shared.first_byte()
        began = time.perf_counter()
        data = worker.view[:length]
        done = 0
        while done < length:
            try:
                got = os.preadv(self._fd, [data[done:]], offset + done)
            except OSError as error:
                raise _Unreadable(error) from error
            if got == 0:  # it shrank: the rest is zeros, and the file is torn
                data[done:] = bytes(length - done)
                break
            done += got
        id = shared.hash(data)
        shared.count_read(0, length)
        shared.progress.stage("read").add(length, time.perf_counter() - began)
        with shared.dedupe.storing(id):
            found = shared.dedupe.find(id, length)
            if found is not None and found[1] == 0 and shared.packer.is_whole(found[0], length):
                return found[0]
            place = worker.store(data, id, CLASS_LARGE, self._chooser, offset)
            shared.dedupe.add(id, length, place, 0)
        return place

    def _end(self, worker: Worker) -> None:
        if self._window.block.type[self._row] == entries.ABSENT:
            self._close()
            self._window.drop(self._row)
            return
        after = status_of(os.fstat(self._fd))
        if same(self._before, after):
            self._settle_read(after, torn=False)
        elif self._tries < TRIES:
            for first, count in self._plan():
                self.read(worker, first, count)
        else:
            self._shared.report(self._path, "torn")
            self._settle_read(self._before, torn=True)

    def _settle_read(self, status: Status, torn: bool) -> None:
        window, row = self._window, self._row
        window.update(row, status, torn or is_racy(status, self._looked_at, self._shared.since))
        if torn:
            window.flag(row, entries.TORN)
        if self._extents is not None:
            window.set_extents(row, self._extents)
        take_attributes(self._shared, self._path, window, row, self._fd)
        self._shared.count_read(1, 0)
        self._close()
        window.settle(row, entries.Chunked(self._kind, self._refs))

    def _settle(self, content: None) -> None:
        self._window.update(self._row, self._before, is_racy(self._before, self._looked_at, self._shared.since))
        take_attributes(self._shared, self._path, self._window, self._row, self._fd)
        self._close()
        self._window.settle(self._row, content)
