"""Small files: read many, keep what is new, store it as one bundle."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from torpor.format import entries
from torpor.format.version import CHUNK_MAX
from torpor.hibernate.large import read_whole
from torpor.hibernate.reading import TRIES, same, take_attributes
from torpor.hibernate.tools import Worker
from torpor.hibernate.window import Window
from torpor.workspace.record import is_racy
from torpor.workspace.walk import open_regular

if TYPE_CHECKING:
    from torpor.codecs.choose import Chooser


class Small(NamedTuple):
    """A small file to be read: its row, and what the walk saw of it."""

    window: Window
    row: int
    path: bytes
    status: os.stat_result


def read_bundle(worker: Worker, files: list[Small], kind: int, chooser: Chooser) -> None:
    """Read files into one buffer; those whose bytes are not in the store become one chunk. Rows of all are settled."""
    shared = worker.shared
    shared.first_byte()
    began = time.perf_counter()
    kept: list[tuple[Small, int, int, bytes]] = []  # file, offset, length, id
    used = total = 0
    for file in files:
        length = _read(worker, file, used)
        if length is None:
            continue
        total += length
        if length == 0:
            file.window.settle(file.row, None)
            continue
        if used + length > CHUNK_MAX:  # it grew between the walk and now: give it a chunk of its own
            used, kept = _flush(worker, kept, used, kind, chooser)
            length = _read(worker, file, used)
            if not length:
                continue
        id = shared.hash(worker.view[used : used + length])
        found = shared.dedupe.find(id, length)
        if found is not None:
            file.window.settle(file.row, entries.Bundled(found[0], found[1], id))
            continue
        kept.append((file, used, length, id))
        used += length
    shared.count_read(len(files), total)
    shared.progress.stage("read").add(total, time.perf_counter() - began)
    _flush(worker, kept, used, kind, chooser)


def _flush(
    worker: Worker, kept: list[tuple[Small, int, int, bytes]], used: int, kind: int, chooser: Chooser
) -> tuple[int, list[tuple[Small, int, int, bytes]]]:
    if used:
        shared = worker.shared
        data = worker.view[:used]
        slices = [(offset, length, id) for _, offset, length, id in kept]
        place = worker.store(data, shared.hash(data), kind, chooser, None, slices)
        for file, offset, length, id in kept:
            shared.dedupe.add(id, length, place, offset)
            file.window.settle(file.row, entries.Bundled(place, offset, id))
    return 0, []


def _read(worker: Worker, file: Small, at: int) -> int | None:
    """Read a file to offset `at` of the buffer: its length; None if it is gone or can't be read (its row is settled).

    The stat before and after must agree; otherwise it is read again, and after three times reported as torn. A file too long for
    what is left of the buffer returns a length that does not fit, unread.
    """
    shared, window, row = worker.shared, file.window, file.row
    try:
        fd = open_regular(file.path)
    except FileNotFoundError:
        shared.report(file.path, "vanished")
        window.drop(row)
        return None
    except OSError as error:
        shared.report(file.path, "unreadable", error.strerror or "")
        window.drop(row)
        return None
    try:
        before = file.status
        for attempt in range(TRIES):
            looked_at = time.time_ns()
            if attempt or before.st_nlink == 0:
                before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                shared.report(file.path, "vanished", "it became another kind of file")
                window.drop(row)
                return None
            size = before.st_size
            if size > CHUNK_MAX:
                read_whole(worker, window, row, file.path)
                return None
            if at + size > CHUNK_MAX:
                return size
            got = os.preadv(fd, [worker.view[at : at + size]], 0) if size else 0
            after = os.fstat(fd)
            if got == size and same(before, after):
                window.update(row, after, is_racy(after, looked_at))
                take_attributes(window, row, fd)
                return size
        # Torn: what the last reading gave is kept, and named.
        window.update(row, after, True, size=got)
        window.flag(row, entries.TORN)
        shared.report(file.path, "torn")
        take_attributes(window, row, fd)
        return got
    except OSError as error:
        shared.report(file.path, "unreadable", error.strerror or "")
        window.drop(row)
        return None
    finally:
        os.close(fd)
