"""Small files: read many into one buffer, keep what is new, store it as one bundle."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from torpor.format import entries
from torpor.format.version import CHUNK_MAX
from torpor.hibernate.reading import TRIES, data_extents, same, take_attributes
from torpor.hibernate.tools import Shared, Worker
from torpor.hibernate.window import Window
from torpor.native import kernels
from torpor.workspace.record import is_racy
from torpor.workspace.walk import PATH_MAX, open_regular

if TYPE_CHECKING:
    from torpor.codecs.choose import Chooser


class Small(NamedTuple):
    """A small file to be read: its row, and what the walk saw of it."""

    window: Window
    row: int
    path: bytes
    status: os.stat_result


class Kept(NamedTuple):
    """A file whose bytes are new: where they lie in the buffer."""

    file: Small
    offset: int
    length: int
    id: bytes


class _Bundle:
    """A buffer that is being filled, one file behind the other."""

    def __init__(self, shared: Shared, view: memoryview) -> None:
        self.shared = shared
        self.view = view
        self.kept: list[Kept] = []
        self.used = self.total = 0
        self._seen: dict[bytes, int] = {}  # offset in the buffer by id: bytes that are here twice are kept once

    def take(self, file: Small, offset: int, length: int) -> None:
        """Settle a file whose bytes lie at `offset`, or keep them behind those that are kept already."""
        self.total += length
        if length == 0:
            file.window.settle(file.row, None)
            return
        view, used = self.view, self.used
        id = self.shared.hash(view[offset : offset + length])
        found = self.shared.dedupe.find(id, length)
        if found is not None:
            file.window.settle(file.row, entries.Bundled(found[0], found[1], id))
            return
        place = self._seen.setdefault(id, used)
        self.kept.append(Kept(file, place, length, id))
        if place == used:
            if offset != used:
                view[used : used + length] = view[offset : offset + length]
            self.used += length


def _read_many(bundle: _Bundle, files: list[Small]) -> list[Small]:
    """Read all that is as the walk saw it and needs nothing special by one compiled call; the others are returned."""
    lib = kernels.library()
    if lib is None:
        return files
    plain: list[Small] = []
    others: list[Small] = []
    offsets: list[int] = []
    records = bytearray()
    named = end = 0
    for file in files:
        status, path = file.status, file.path
        size = status.st_size
        if not size or size > CHUNK_MAX - end or status.st_blocks * 512 < size or len(path) >= PATH_MAX:
            others.append(file)
            continue
        records += kernels.WANTED.pack(named, end, size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        plain.append(file)
        offsets.append(end)
        named += len(path) + 1
        end += size
    if not plain:
        return files
    looked_at = time.time_ns()
    done = kernels.read_small(lib, b"\0".join([file.path for file in plain]) + b"\0", records, bundle.view, len(plain))
    for file, offset, fine in zip(plain, offsets, done, strict=True):
        if fine:
            if not is_racy(file.status, looked_at):
                file.window.calm(file.row)
            bundle.take(file, offset, file.status.st_size)
        else:
            others.append(file)
    return others


def fill(shared: Shared, view: memoryview, files: list[Small]) -> tuple[list[Kept], int, list[Small]]:
    """Read files into a buffer of 4 MiB; rows of all are settled but of those kept, and of those that did not fit.

    Returns the files whose bytes the store lacks, how much of the buffer they take, and files that have grown too long for it.
    """
    shared.first_byte()
    began = time.perf_counter()
    bundle = _Bundle(shared, view)
    rest: list[Small] = []
    for file in _read_many(bundle, files):
        length = _read(shared, view, file, bundle.used)
        if length is None:
            continue
        if length > CHUNK_MAX - bundle.used:
            rest.append(file)
            continue
        bundle.take(file, bundle.used, length)
    shared.count_read(len(files) - len(rest), bundle.total)
    shared.progress.stage("read").add(bundle.total, time.perf_counter() - began)
    return bundle.kept, bundle.used, rest


def store(worker: Worker, data: memoryview, kept: list[Kept], kind: int, chooser: Chooser) -> None:
    """Store what `fill` kept as one chunk, and settle the rows."""
    shared = worker.shared
    slices = [(item.offset, item.length, item.id) for item in kept]
    place = worker.store(data, shared.hash(data), kind, chooser, None, slices)
    for item in kept:
        shared.dedupe.add(item.id, item.length, place, item.offset)
        item.file.window.settle(item.file.row, entries.Bundled(place, item.offset, item.id))


def _read(shared: Shared, view: memoryview, file: Small, at: int) -> int | None:
    """Read a file to offset `at` of the buffer: its length; None if it is gone or can't be read (its row is settled).

    The stat before and after must agree; otherwise it is read again, and after three times reported as torn. A file too long for
    what is left of the buffer returns its length, unread.
    """
    window, row = file.window, file.row
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
        got = 0
        for attempt in range(TRIES):
            looked_at = time.time_ns()
            if attempt:
                before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                shared.report(file.path, "vanished", "it became another kind of file")
                window.drop(row)
                return None
            size = before.st_size
            if size > CHUNK_MAX - at:
                return size
            extents = data_extents(fd, before)
            got = os.preadv(fd, [view[at : at + size]], 0) if size else 0
            after = os.fstat(fd)
            if got == size and same(before, after):
                window.update(row, after, is_racy(after, looked_at))
                if extents is not None:
                    window.set_extents(row, extents)
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
