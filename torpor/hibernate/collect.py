"""Walks the workspace beside the record, lays out entries, and hands changed files to the workers."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from functools import partial
from mmap import mmap

from torpor.codecs.choose import Chooser
from torpor.format import entries
from torpor.format.entries import Bundled, Chunked
from torpor.format.version import CHUNK_MAX, CLASS_BUNDLE, CLASS_CRITICAL, NONE, ROWS_MAX, SMALL_FILE
from torpor.hibernate.dedupe import Carrier
from torpor.hibernate.large import LargeFile
from torpor.hibernate.reading import take_attributes, unchanged
from torpor.hibernate.small import Kept, Small, fill, store
from torpor.hibernate.tools import Shared, Worker
from torpor.hibernate.window import Window
from torpor.jobs import Scope
from torpor.plan.bundles import ends_after, is_heavy, klass_of
from torpor.workspace.crew import Crew, Pool
from torpor.workspace.record import Record
from torpor.workspace.recorded import Recorded, recorded
from torpor.workspace.walk import Found, walk

REFS_MAX = 1 << 20  # references in one block before it is closed early
SLOW = 60e-6  # seconds a small file may take before the disk counts as slow …
STAY_SLOW = 16  # … for so many bundles
UNSETTLED = 3  # blocks that may wait for workers at once


class Collector:
    """Runs on the job's own thread. `done(window)` is called for each block in order, once all its rows are settled."""

    def __init__(
        self, scope: Scope, root_names: list[bytes], shared: Shared, crew: Crew[Worker], record: Record | None, carrier: Carrier | None,
        stable_inodes: bool, buffers: Pool, done: Callable[[Window], None],
    ) -> None:  # fmt: skip
        self._scope = scope
        self._root_names = root_names
        self._shared = shared
        self._crew = crew
        self._carrier = carrier
        self._stable = stable_inodes
        self._done = done
        self._buffers = buffers
        self._slow = 0
        self._rows = recorded(record) if record is not None else iter(())
        self._next: Recorded | None = next(self._rows, None)
        self._condition = threading.Condition()
        self._windows: list[Window] = []
        self._refs = 0
        self._count = 0
        self._links: dict[tuple[int, int], int] = {}
        self._bundles: dict[int, list[Small]] = {CLASS_CRITICAL: [], CLASS_BUNDLE: []}
        self._filled = {CLASS_CRITICAL: 0, CLASS_BUNDLE: 0}
        self._choosers = {
            CLASS_CRITICAL: Chooser(shared.policy, shared.level, CLASS_CRITICAL),
            CLASS_BUNDLE: Chooser(shared.policy, shared.level, CLASS_BUNDLE),
        }
        self.users: set[int] = set()
        self.groups: set[int] = set()
        self.scanned_bytes = 0
        self._folder, self._heavy = b"", False  # of the last small file

    def run(self) -> int:
        """Walk everything; the number of entries is returned once every block went out."""
        stage = self._shared.progress.stage("scan", "files")
        self._shared.progress.stage("read")
        self._shared.progress.stage("compress")
        parents: list[int] = []
        began, batch = time.perf_counter(), 0
        for found in walk(self._scope, self._shared.report):
            del parents[found.depth :]
            parent = parents[-1] if parents else NONE
            number = self._entry(found, parent)
            if stat.S_ISDIR(found.stat.st_mode):
                parents.append(number)
            batch += 1
            if batch == 256:
                now = time.perf_counter()
                stage.add(batch, now - began)
                began, batch = now, 0
        stage.add(batch, time.perf_counter() - began)
        self._shared.progress.end("scan")
        for kind in self._bundles:
            self._send(kind)
        if self._windows:
            self._windows[-1].closed = True
        self._crew.drain()
        self._emit(wait=True)
        return self._count

    def _window(self) -> Window:
        if not self._windows or self._windows[-1].closed:
            self._windows.append(Window(self._count, self._condition))
            self._refs = 0
        return self._windows[-1]

    def _entry(self, found: Found, parent: int) -> int:
        window = self._window()
        number = self._count
        self._count += 1
        status = found.stat
        self.users.add(status.st_uid)
        self.groups.add(status.st_gid)
        name = found.name if found.depth else self._root_names[found.root]
        mode = status.st_mode
        if stat.S_ISREG(mode):
            self._file(window, found, parent, name, number)
        elif stat.S_ISDIR(mode):
            row = window.add(parent, name, entries.DIRECTORY, status, False)
            if found.fd >= 0:
                try:
                    take_attributes(window, row, found.fd)
                except OSError as error:
                    self._shared.report(found.path, "unreadable", f"its attributes: {error.strerror}")
        else:
            self._symlink(window, found, parent, name)
        if len(window.block) >= ROWS_MAX or self._refs >= REFS_MAX:
            window.closed = True
            self._emit(wait=False)
        return number

    def _symlink(self, window: Window, found: Found, parent: int, name: bytes) -> None:
        row = window.add(parent, name, entries.SYMLINK, found.stat, False)
        window.expect()
        try:
            window.settle(row, os.readlink(found.name, dir_fd=found.fd))
        except FileNotFoundError:
            self._shared.report(found.path, "vanished")
            window.drop(row)
        except OSError as error:
            self._shared.report(found.path, "unreadable", error.strerror or "")
            window.drop(row)

    def _file(self, window: Window, found: Found, parent: int, name: bytes, number: int) -> None:
        status = found.stat
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), number)
            if first != number:
                row = window.add(parent, name, entries.HARDLINK, status, False)
                window.block.content[row] = first
                window.linked[row] = found.path
                return
        self.scanned_bytes += status.st_size
        old = self._match(found.key)
        if old is not None and self._carry(window, found, parent, name, old):
            return
        row = window.add(parent, name, entries.FILE, status, True, status.st_size)
        window.expect()
        if status.st_size < SMALL_FILE:
            self._small(Small(window, row, found.path, status), found.relative or name)
        else:
            self._large(window, row, found.path)

    def _match(self, key: bytes) -> Recorded | None:
        """Move the record forward to this key."""
        while self._next is not None and self._next.key < key:
            self._next = next(self._rows, None)
        return self._next if self._next is not None and self._next.key == key else None

    def _carry(self, window: Window, found: Found, parent: int, name: bytes, old: Recorded) -> bool:
        """Take an unchanged file from the record without reading it; False if it must be read."""
        block, row = old.block, old.row
        status = found.stat
        if not unchanged(status, old, self._stable):
            return False
        content = block.content[row]
        carrier = self._carrier
        if isinstance(content, Bundled):
            place = carrier.carry(content.chunk) if carrier else None
            if place is None:
                return False
            content = content._replace(chunk=place)
        elif isinstance(content, Chunked):
            refs = carrier.carry_all(content.refs) if carrier else None
            if refs is None:
                return False
            self._refs += len(refs)
            content = Chunked(content.chunker, refs)
        new = window.add(parent, name, entries.FILE, status, False, status.st_size)
        window.block.content[new] = content
        window.block.flags[new] = block.flags[row]
        if row in block.extents:
            window.block.extents[new] = block.extents[row]
        if row in block.attributes:
            window.block.attributes[new] = block.attributes[row]
        return True

    def _small(self, file: Small, relative: bytes) -> None:
        folder, _, name = relative.rpartition(b"/")
        if folder != self._folder:
            self._folder, self._heavy = folder, any(map(is_heavy, folder.split(b"/")))
        kind = klass_of(name, self._heavy)
        size = file.status.st_size
        if self._filled[kind] + size > CHUNK_MAX or len(self._bundles[kind]) >= 4096:
            self._send(kind)
        self._bundles[kind].append(file)
        self._filled[kind] += size
        if ends_after(relative, size, self._filled[kind]):
            self._send(kind)

    def _send(self, kind: int) -> None:
        files = self._bundles[kind]
        if files:
            self._shared.progress.stage("read").expect(self._filled[kind])
            self._bundles[kind], self._filled[kind] = [], 0
            self._bundle(files, kind)

    def _bundle(self, files: list[Small], kind: int) -> None:
        """Read small files here, and let a worker store them; on a slow disk, let workers read them too.

        Reading a small file is a handful of calls of a few microseconds. Threads that do that side by side spend more time handing
        the interpreter to each other than reading, so one thread does it as long as the disk answers at once.
        """
        if self._slow:
            self._slow -= 1
            self._crew.put(partial(self._read_there, files, kind))
            return
        buffer = self._buffers.take()
        began = time.perf_counter()
        kept, used, rest = fill(self._shared, memoryview(buffer), files)
        spent = time.perf_counter() - began - used / 1e9
        self._slow = STAY_SLOW if spent > SLOW * len(files) else 0
        if used:
            self._crew.put(partial(self._store, buffer, kept, used, kind))
        else:
            self._buffers.give(buffer)
        self._again(rest, kind)

    def _store(self, buffer: mmap, kept: list[Kept], used: int, kind: int, worker: Worker) -> None:
        store(worker, memoryview(buffer)[:used], kept, kind, self._choosers[kind])
        self._buffers.give(buffer)

    def _read_there(self, files: list[Small], kind: int, worker: Worker) -> None:
        kept, used, rest = fill(self._shared, worker.view, files)
        if used:
            store(worker, worker.view[:used], kept, kind, self._choosers[kind])
        for file in rest:
            large = self._large_file(file.window, file.row, file.path)
            for first, count in large.begin():
                large.read(worker, first, count)

    def _again(self, rest: list[Small], kind: int) -> None:
        """Files that grew between the walk and the reading."""
        for file in rest:
            try:
                status = os.stat(file.path, follow_symlinks=False)
            except OSError:
                self._large(file.window, file.row, file.path)  # it says what is wrong
                continue
            if status.st_size < SMALL_FILE:
                self._bundle([file._replace(status=status)], kind)
            else:
                self._large(file.window, file.row, file.path)

    def _large_file(self, window: Window, row: int, path: bytes) -> LargeFile:
        return LargeFile(self._shared, window, row, path, Chooser(self._shared.policy, self._shared.level))

    def _large(self, window: Window, row: int, path: bytes) -> None:
        file = self._large_file(window, row, path)
        for first, count in file.begin():
            self._refs += count

            self._shared.progress.stage("read").expect(file.length(first, count))
            self._crew.put(partial(file.stretch, first, count))

    def _emit(self, wait: bool) -> None:
        """Send settled blocks on, in order. Without `wait`, only until few enough are left."""
        while self._windows and self._windows[0].closed:
            window = self._windows[0]
            if window.pending:
                if not wait and len(self._windows) <= UNSETTLED:
                    return
                for kind in self._bundles:
                    self._send(kind)  # rows of the block may sit in a bundle that is not full yet
                self._crew.drain()
            self._windows.pop(0)
            self._done(window)
