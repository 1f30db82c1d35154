"""Small files: read many into one buffer, keep what is new, store it as one bundle."""

from __future__ import annotations

import os
import stat
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

from torpor.format import entries
from torpor.format.version import CHUNK_MAX
from torpor.hibernate.reading import TRIES, data_extents, same, take_attributes
from torpor.hibernate.tools import Shared, Worker
from torpor.hibernate.window import Window
from torpor.native import kernels
from torpor.workspace.record import RACY_NS, is_racy
from torpor.workspace.walk import open_regular

if TYPE_CHECKING:
    from torpor.codecs.choose import Chooser
    from torpor.workspace.scan import Stat, Status

CALM = 2  # kernels.read_small: every later change will show


class Small(NamedTuple):
    """A small file to be read: its row, and what the walk saw of it."""

    window: Window
    row: int
    path: bytes
    status: Status


class Files:
    """Many of them, by columns."""

    __slots__ = ("found", "paths", "rows", "windows")

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self.rows: list[int] = []
        self.paths: list[bytes] = []
        self.found: list[Status] = []

    def __len__(self) -> int:
        return len(self.rows)

    def extend(self, window: Window, row: int, paths: list[bytes], found: list[Status]) -> None:
        """Files that stand in rows from `row` on."""
        self.windows += [window] * len(paths)
        self.rows += range(row, row + len(paths))
        self.paths += paths
        self.found += found

    def __iter__(self) -> Iterator[Small]:
        return map(Small, self.windows, self.rows, self.paths, self.found)


class Filled:
    """What a buffer holds of a bundle: for each file that is kept, where its bytes lie in the first `used` of it, and their id."""

    __slots__ = ("ids", "lengths", "offsets", "rows", "used", "windows")

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self.rows: list[int] = []
        self.offsets: list[int] = []
        self.lengths: list[int] = []
        self.ids: list[bytes] = []
        self.used = 0


class _Filling:
    """A buffer that is being filled, one file behind the other."""

    def __init__(self, shared: Shared, view: memoryview) -> None:
        self.shared = shared
        self.view = view
        self.filled = Filled()
        self.total = 0
        self._seen: dict[bytes, int] = {}  # offset in the buffer by id: bytes that are here twice are kept once

    def take_all(self, windows: list[Window], rows: list[int], offsets: list[int], lengths: list[int]) -> None:
        """Files that were read to these offsets, without gaps, none of them empty."""
        view, id_of = self.view, self.shared.hash
        ids = [id_of(view[at : at + size]) for at, size in zip(offsets, lengths, strict=True)]
        seen = dict(zip(ids, offsets, strict=True))
        if len(seen) == len(ids) and not self.shared.dedupe.may_have(ids):
            filled = self.filled
            filled.windows, filled.rows, filled.offsets, filled.lengths, filled.ids = windows, rows, offsets, lengths, ids
            filled.used = self.total = offsets[-1] + lengths[-1]
            self._seen = seen
            return
        for window, row, offset, length, id in zip(windows, rows, offsets, lengths, ids, strict=True):
            self._take(window, row, offset, length, id)

    def take(self, file: Small, length: int) -> None:
        """A file that was read to the end of what is used."""
        if length == 0:
            file.window.settle(file.row, None)
            return
        used = self.filled.used
        self._take(file.window, file.row, used, length, self.shared.hash(self.view[used : used + length]))

    def _take(self, window: Window, row: int, offset: int, length: int, id: bytes) -> None:
        """Settle a file whose bytes lie at `offset`, or keep them behind those that are kept already."""
        self.total += length
        view, filled = self.view, self.filled
        found = self.shared.dedupe.find(id, length)
        if found is not None:
            window.settle(row, entries.Bundled(found[0], found[1], id))
            return
        used = filled.used
        place = self._seen.setdefault(id, used)
        filled.windows.append(window)
        filled.rows.append(row)
        filled.offsets.append(place)
        filled.lengths.append(length)
        filled.ids.append(id)
        if place == used:
            if offset != used:
                view[used : used + length] = view[offset : offset + length]
            filled.used += length


def _read_many(filling: _Filling, files: Files) -> Iterable[Small]:
    """Read all that is as the walk saw it and needs nothing special by one compiled call; the others are returned."""
    lib = kernels.library()
    if lib is None:
        return files
    _, inode, size, blocks, _, mtime, ctime, _, _, _, _ = zip(*files.found, strict=True)
    columns = array("Q", size), array("Q", blocks), array("Q", inode), array("q", mtime), array("q", ctime)
    done, places, _ = kernels.read_small(lib, files.paths, columns, filling.view, RACY_NS)
    for window, row, what in zip(files.windows, files.rows, done, strict=True):
        if what == CALM:
            window.calm(row)
    kept = done
    if 0 in size:
        kept = bytearray(map(min, done, size))
        for window, row, what, length in zip(files.windows, files.rows, done, size, strict=True):
            if what and not length:
                window.settle(row, None)
    if any(kept):
        offsets, lengths = list(compress(places, kept)), list(compress(size, kept))
        filling.take_all(list(compress(files.windows, kept)), list(compress(files.rows, kept)), offsets, lengths)
    return [] if all(done) else [file for file, what in zip(files, done, strict=True) if not what]


def fill(shared: Shared, view: memoryview, files: Files) -> tuple[Filled, list[Small]]:
    """Read files into a buffer of 4 MiB; rows of all are settled but of those kept, and of those that did not fit.

    Returns the files whose bytes the store lacks, and files that have grown too long for the buffer.
    """
    shared.first_byte()
    began = time.perf_counter()
    filling = _Filling(shared, view)
    rest: list[Small] = []
    for file in _read_many(filling, files):
        length = _read(shared, view, file, filling.filled.used)
        if length is None:
            continue
        if length > CHUNK_MAX - filling.filled.used:
            rest.append(file)
            continue
        filling.take(file, length)
    shared.count_read(len(files) - len(rest), filling.total)
    shared.progress.stage("read").add(filling.total, time.perf_counter() - began)
    return filling.filled, rest


def store(worker: Worker, view: memoryview, filled: Filled, kind: int, chooser: Chooser) -> None:
    """Store what `fill` kept as one chunk, and settle the rows."""
    shared = worker.shared
    data = view[: filled.used]
    offsets, lengths, ids = filled.offsets, filled.lengths, filled.ids
    place = worker.store(data, shared.hash(data), kind, chooser, None, list(zip(offsets, lengths, ids, strict=True)))
    shared.dedupe.add_all(ids, lengths, place, offsets)
    for window, row, offset, id in zip(filled.windows, filled.rows, offsets, ids, strict=True):
        window.block.content[row] = entries.Bundled(place, offset, id)
    for window, rows in Counter(filled.windows).items():
        window.settled(rows)


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
        before: Stat = file.status
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
