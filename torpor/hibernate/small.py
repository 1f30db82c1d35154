"""Small files: read many into one buffer, keep what is new, store it as one bundle."""

from __future__ import annotations

import os
import stat
import time
from itertools import compress
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
    from torpor.workspace.scan import Stat, Status


class Small(NamedTuple):
    """A small file to be read: its row, and what the walk saw of it."""

    window: Window
    row: int
    path: bytes
    status: Status


class Filled:
    """What a buffer holds of a bundle: for each file that is kept, where its bytes lie in the first `used` of it, and their id."""

    __slots__ = ("files", "ids", "lengths", "offsets", "used")

    def __init__(self) -> None:
        self.files: list[Small] = []
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

    def take_all(self, files: list[Small], offsets: list[int], lengths: list[int]) -> None:
        """Files that were read to these offsets, in ascending order."""
        view, id_of = self.view, self.shared.hash
        ids = [id_of(view[at : at + size]) for at, size in zip(offsets, lengths, strict=True)]
        seen = dict(zip(ids, offsets, strict=True))
        if sum(lengths) == offsets[-1] + lengths[-1] and len(seen) == len(ids) and not self.shared.dedupe.may_have(ids):
            filled = self.filled
            filled.files, filled.offsets, filled.lengths, filled.ids = files, offsets, lengths, ids
            filled.used = self.total = offsets[-1] + lengths[-1]
            self._seen = seen
            return
        for file, offset, length, id in zip(files, offsets, lengths, ids, strict=True):
            self._take(file, offset, length, id)

    def take(self, file: Small, length: int) -> None:
        """A file that was read to the end of what is used."""
        if length == 0:
            file.window.settle(file.row, None)
            return
        used = self.filled.used
        self._take(file, used, length, self.shared.hash(self.view[used : used + length]))

    def _take(self, file: Small, offset: int, length: int, id: bytes) -> None:
        """Settle a file whose bytes lie at `offset`, or keep them behind those that are kept already."""
        self.total += length
        view, filled = self.view, self.filled
        found = self.shared.dedupe.find(id, length)
        if found is not None:
            file.window.settle(file.row, entries.Bundled(found[0], found[1], id))
            return
        used = filled.used
        place = self._seen.setdefault(id, used)
        filled.files.append(file)
        filled.offsets.append(place)
        filled.lengths.append(length)
        filled.ids.append(id)
        if place == used:
            if offset != used:
                view[used : used + length] = view[offset : offset + length]
            filled.used += length


def _read_many(filling: _Filling, files: list[Small]) -> list[Small]:
    """Read all that is as the walk saw it and needs nothing special by one compiled call; the others are returned."""
    lib = kernels.library()
    if lib is None:
        return files
    plain: list[Small] = []
    others: list[Small] = []
    offsets: list[int] = []
    records: list[bytes] = []
    pack = kernels.WANTED.pack
    named = end = 0
    for file in files:
        _, _, path, (_, inode, size, blocks, _, mtime, ctime, _, _, _, _) = file
        if not size or size > CHUNK_MAX - end or blocks * 512 < size or len(path) >= PATH_MAX:
            others.append(file)
            continue
        records.append(pack(named, end, size, inode, mtime, ctime))
        plain.append(file)
        offsets.append(end)
        named += len(path) + 1
        end += size
    if not plain:
        return files
    looked_at = time.time_ns()
    done = kernels.read_small(lib, b"\0".join([file.path for file in plain]) + b"\0", bytearray().join(records), filling.view, len(plain))
    if not all(done):
        others += [file for file, fine in zip(plain, done, strict=True) if not fine]
        offsets = list(compress(offsets, done))
        plain = list(compress(plain, done))
    for window, row, _, status in plain:
        if not is_racy(status, looked_at):
            window.calm(row)
    if plain:
        filling.take_all(plain, offsets, [file.status.st_size for file in plain])
    return others


def fill(shared: Shared, view: memoryview, files: list[Small]) -> tuple[Filled, list[Small]]:
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
    settled: dict[Window, int] = {}
    for (window, row, _, _), offset, id in zip(filled.files, offsets, ids, strict=True):
        window.block.content[row] = entries.Bundled(place, offset, id)
        settled[window] = settled.get(window, 0) + 1
    for window, rows in settled.items():
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
