"""Small files: read many into one buffer, keep what is new, store it as one bundle."""

from __future__ import annotations

import os
import stat
import time
from array import array
from functools import partial
from itertools import compress, repeat
from typing import TYPE_CHECKING, NamedTuple

from torpor.format import entries
from torpor.format.version import CHUNK_MAX
from torpor.hibernate.reading import TRIES, data_extents, same, take_attributes
from torpor.hibernate.tools import Shared, Worker
from torpor.hibernate.window import Window
from torpor.native import kernels
from torpor.workspace.record import RACY, RACY_NS, is_racy
from torpor.workspace.scan import Statuses, status_of
from torpor.workspace.walk import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torpor.codecs.choose import Chooser
    from torpor.workspace.scan import Status

_FLAGS = bytes((RACY, RACY, 0)) + bytes(253)  # by what kernels.read_small says of a file; after 2 every later change will show
_LEFT = b"\1" + bytes(255)
_bundled = partial(tuple.__new__, entries.Bundled)


class Small(NamedTuple):
    """A small file to be read: its row, and what the walk saw of it."""

    window: Window
    row: int
    path: bytes
    status: Status


class Rows(NamedTuple):
    """Rows of one block, one behind the other."""

    window: Window
    first: int
    length: int


class Files:
    """Many of them, in order: which rows they stand in, their paths, and what the walk saw of them."""

    __slots__ = ("_paths", "_seen", "count", "rows")

    def __init__(self) -> None:
        self.count = 0
        self.rows: list[Rows] = []
        self._paths: list[bytes] = []
        self._seen: list[bytes | bytearray] = []

    def extend(self, window: Window, row: int, above: bytes, names: list[bytes], found: Statuses) -> None:
        """Files of one folder that stand in rows from `row` on. `above`: the folder's path, with a slash at its end."""
        self.count += len(names)
        self.rows.append(Rows(window, row, len(names)))
        self._paths.append(above + (b"\0" + above).join(names))
        self._seen.append(found.data)

    @property
    def paths(self) -> bytes:
        """Each ends with a zero byte."""
        return b"\0".join(self._paths) + b"\0"

    @property
    def found(self) -> Statuses:
        return Statuses(bytearray().join(self._seen))

    def each(self, paths: bytes, found: Statuses) -> Iterator[Small]:
        """One by one."""
        windows = (window for window, _, count in self.rows for _ in range(count))
        rows = (row for _, first, count in self.rows for row in range(first, first + count))
        return map(Small, windows, rows, paths.split(b"\0"), found)


class Filled:
    """What a buffer holds of a bundle: for each file that is kept, where its bytes lie in the first `used` of it, and their id."""

    __slots__ = ("ids", "lengths", "offsets", "rows", "used")

    def __init__(self) -> None:
        self.rows: list[Rows] = []
        self.offsets: Sequence[int] = []
        self.lengths: Sequence[int] = []
        self.ids: list[bytes] = []
        self.used = 0


class _Filling:
    """A buffer that is being filled, one file behind the other."""

    def __init__(self, shared: Shared, view: memoryview) -> None:
        self.shared = shared
        self.view = view
        self.filled = Filled()
        self.total = 0
        self._offsets: list[int] = []
        self._lengths: list[int] = []
        self._seen: dict[bytes, int] = {}  # offset in the buffer by id: bytes that are here twice are kept once

    def take_all(self, rows: list[Rows], offsets: Sequence[int], lengths: Sequence[int]) -> None:
        """Files that were read to these offsets, without gaps, none of them empty."""
        filled, used = self.filled, offsets[-1] + lengths[-1]
        ids = self.shared.hash_all(self.view, offsets, lengths)
        if len(set(ids)) == len(ids) and not self.shared.dedupe.may_have(ids):
            filled.rows, filled.offsets, filled.lengths, filled.ids = rows, offsets, lengths, ids
            filled.used = self.total = used
            return
        where = ((window, row) for window, first, count in rows for row in range(first, first + count))
        for (window, row), offset, length, id in zip(where, offsets, lengths, ids, strict=True):
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
        if not self._seen and filled.ids:  # what `take_all` took
            self._offsets, self._lengths = list(filled.offsets), list(filled.lengths)
            self._seen = dict(zip(filled.ids, self._offsets, strict=True))
        filled.offsets, filled.lengths = self._offsets, self._lengths
        used = filled.used
        place = self._seen.setdefault(id, used)
        if filled.rows and (last := filled.rows[-1]).window is window and last.first + last.length == row:
            filled.rows[-1] = Rows(window, last.first, last.length + 1)
        else:
            filled.rows.append(Rows(window, row, 1))
        self._offsets.append(place)
        self._lengths.append(length)
        filled.ids.append(id)
        if place == used:
            if offset != used:
                view[used : used + length] = view[offset : offset + length]
            filled.used += length


def _read_many(filling: _Filling, files: Files) -> Iterator[Small]:
    """Read all that is as the walk saw it and needs nothing special by one compiled call; the others are left."""
    paths, found = files.paths, files.found
    lib = kernels.library()
    if lib is None:
        return files.each(paths, found)
    done, places, _ = kernels.read_small(lib, paths, found.data, filling.view, RACY_NS, filling.shared.since)
    sizes = array("I", found.column("st_size"))
    plain = 0 not in done and 0 not in sizes
    rows, at = files.rows, 0
    if not plain:
        kept = bytearray(map(bool, map(min, done, sizes)))
        rows, places, sizes = [], array("I", compress(places, kept)), array("I", compress(sizes, kept))
    for run in files.rows:
        end = at + run.length
        run.window.racy(run.first, done[at:end].translate(_FLAGS))
        if not plain:
            _keep(rows, run, kept[at:end], done[at:end])
        at = end
    if places:
        filling.take_all(rows, places, sizes)
    return compress(files.each(paths, found), done.translate(_LEFT)) if 0 in done else iter(())


def _keep(rows: list[Rows], run: Rows, kept: bytearray, done: bytearray) -> None:
    """Add those rows that are `kept`; the others that are `done` are empty, and settled."""
    window, first, length = run
    at = 0
    while at < length:
        end = kept.find(0, at)
        if end < 0:
            end = length
        if at < end:
            rows.append(Rows(window, first + at, end - at))
        at = end + 1
    window.settled(length - done.count(0) - sum(kept))


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
    shared.count_read(files.count - len(rest), filling.total)
    shared.progress.stage("read").add(filling.total, time.perf_counter() - began)
    return filling.filled, rest


def store(worker: Worker, view: memoryview, filled: Filled, kind: int, chooser: Chooser) -> None:
    """Store what `fill` kept as one chunk, and settle the rows."""
    shared = worker.shared
    data = view[: filled.used]
    offsets, lengths, ids = filled.offsets, filled.lengths, filled.ids
    place = worker.store(data, shared.hash(data), kind, chooser, None, (offsets, lengths, ids))
    shared.dedupe.add_all(ids, lengths, place, offsets)
    contents = list(map(_bundled, zip(repeat(place, len(ids)), offsets, ids, strict=True)))
    at = 0
    for window, first, count in filled.rows:
        window.bundled(first, contents[at : at + count])
        at += count


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
                before = status_of(os.fstat(fd))
            if not stat.S_ISREG(before.st_mode):
                shared.report(file.path, "vanished", "it became another kind of file")
                window.drop(row)
                return None
            size = before.st_size
            if size > CHUNK_MAX - at:
                return size
            extents = data_extents(fd, before)
            got = os.preadv(fd, [view[at : at + size]], 0) if size else 0
            after = status_of(os.fstat(fd))
            if got == size and same(before, after):
                window.update(row, after, is_racy(after, looked_at, shared.since))
                if extents is not None:
                    window.set_extents(row, extents)
                take_attributes(shared, file.path, window, row, fd)
                return size
        # Torn: what the last reading gave is kept, and named.
        window.update(row, after, True, size=got)
        window.flag(row, entries.TORN)
        shared.report(file.path, "torn")
        take_attributes(shared, file.path, window, row, fd)
        return got
    except OSError as error:
        shared.report(file.path, "unreadable", error.strerror or "")
        window.drop(row)
        return None
    finally:
        os.close(fd)
