"""Walks the workspace beside the record, lays out entries, and hands changed files to the workers."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

from torpor.codecs.choose import Chooser
from torpor.format import entries
from torpor.format.entries import Bundled, Chunked, Content
from torpor.format.version import NONE
from torpor.hibernate.bundler import Bundler
from torpor.hibernate.dedupe import Carrier
from torpor.hibernate.large import LargeFile
from torpor.hibernate.links import Link, Links
from torpor.hibernate.reading import has_content, take_attributes, unchanged, unchanged_run
from torpor.hibernate.tools import Shared, Worker
from torpor.hibernate.window import Window
from torpor.jobs import Scope
from torpor.workspace import system
from torpor.workspace.crew import Crew, Pool
from torpor.workspace.record import Record
from torpor.workspace.recorded import Cursor, Recorded
from torpor.workspace.scan import Statuses
from torpor.workspace.walk import Found, Run, found_in, runs

ROWS = 1 << 14  # entries in a block, of the 65,536 that a section may have: the last is encoded when all else is done
REFS_MAX = 1 << 20  # references in one block before it is closed early
WEIGHT_MAX = 1 << 24  # bytes of targets, attributes and extents
UNSETTLED = 12  # blocks that may wait for workers at once


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
        self._cursor = Cursor(record) if record is not None else None
        self._lock = threading.Lock()
        self._windows: list[Window] = []
        self._refs = 0
        self._count = 0
        self._links = Links()
        self._liars: dict[int, str] = {}  # by device
        self._bundler = Bundler(shared, crew, buffers, self._large, self._large_file)
        self.users: set[int] = set()
        self.groups: set[int] = set()

    def run(self) -> int:
        """Walk everything; the number of entries is returned once every block went out."""
        stage = self._shared.progress.stage("scan", "files")
        self._shared.progress.stage("read")
        self._shared.progress.stage("compress")
        parents: list[int] = []
        batch, spent = 0, 0.0
        with closing(runs(self._scope, self._shared.report)) as walk:
            while True:
                began = time.perf_counter()
                part = next(walk, None)  # only this is scanning: the rest reads, and waits for workers
                spent += time.perf_counter() - began
                if part is None:
                    break
                if isinstance(part, Run):
                    self._run(part, parents[part.folder.depth - 1])
                    batch += len(part.names)
                else:
                    del parents[part.depth :]
                    number = self._entry(part, parents[-1] if parents else NONE)
                    if stat.S_ISDIR(part.stat.st_mode):
                        parents.append(number)
                    batch += 1
                if batch >= 256:
                    stage.add(batch, spent)
                    batch, spent = 0, 0.0
        stage.add(batch, spent)
        self._shared.progress.end("scan")
        self._bundler.flush()
        if self._windows:
            self._windows[-1].closed = True
        self._crew.drain()
        self._emit(wait=True)
        return self._count

    def _window(self, rows: int = 1) -> Window:
        """The block that takes the next rows, of which so many share it."""
        if self._windows and not self._windows[-1].closed and len(self._windows[-1].block) + rows > ROWS:
            self._windows[-1].closed = True
            self._emit(wait=False)
        if not self._windows or self._windows[-1].closed:
            self._windows.append(Window(self._count, self._lock))
            self._refs = 0
        return self._windows[-1]

    def _run(self, run: Run, parent: int) -> None:
        folder, names, found = run
        if not found.plain or self._liar(found[0].st_dev):
            for entry in found_in(run):
                self._entry(entry, parent)
            return
        contents: list[Content] | None = None
        if self._cursor is not None and not self._cursor.ended:
            contents = self._carry_run(self._cursor, run)
            if contents is None:
                for entry in found_in(run):
                    self._entry(entry, parent)
                return
        # Nothing special: all rows at once.
        window = self._window(len(names))
        row = window.add_files(parent, names, found, contents)
        self._count += len(names)
        if contents is None:
            window.expect(len(names))
            self._bundler.add(window, row, folder.relative, folder.path + b"/", names, found)
            self._close_full(window)

    def _carry_run(self, cursor: Cursor, run: Run) -> list[Content] | None:
        """What a run of small, unchanged files holds, from the record; None if it must be looked at file by file."""
        old = cursor.match_run(run.folder.key, run.names)
        if old is None or not unchanged_run(run.stats, old, self._stable):
            return None
        contents = old.block.content[old.row : old.row + len(run.names)]
        places: dict[int, int | None] = {}
        for content in contents:
            if isinstance(content, Bundled) and content.chunk not in places:
                places[content.chunk] = self._carrier.carry(content.chunk) if self._carrier else None
        out: list[Content] = []
        for content in contents:
            if isinstance(content, Bundled) and (place := places[content.chunk]) is not None:
                out.append(Bundled(place, content.offset, content.id))
            elif content is None:
                out.append(None)
            else:
                return None
        cursor.pass_by(len(out))
        return out

    def _entry(self, found: Found, parent: int) -> int:
        window = self._window()
        number = self._count
        self._count += 1
        status = found.stat
        name = found.name if found.depth else self._root_names[found.root]
        mode = status.st_mode
        if stat.S_ISREG(mode):
            self._file(window, found, parent, name, number)
        elif stat.S_ISDIR(mode):
            row = window.add(parent, name, entries.DIRECTORY, status, False)
            if found.fd >= 0 and not found.plain:
                take_attributes(self._shared, found.path, window, row, found.fd)
        else:
            self._symlink(window, found, parent, name)
        self._close_full(window)
        return number

    def _close_full(self, window: Window) -> None:
        if self._refs >= REFS_MAX or window.weight >= WEIGHT_MAX:
            window.closed = True
            self._emit(wait=False)

    def _symlink(self, window: Window, found: Found, parent: int, name: bytes) -> None:
        row = window.add(parent, name, entries.SYMLINK, found.stat, False)
        window.expect()
        try:
            target = os.readlink(found.name, dir_fd=found.fd)
            window.weight += len(target)
            window.settle(row, target)
        except FileNotFoundError:
            self._shared.report(found.path, "vanished")
            window.drop(row)
        except OSError as error:
            self._shared.report(found.path, "unreadable", error.strerror or "")
            window.drop(row)

    def _file(self, window: Window, found: Found, parent: int, name: bytes, number: int) -> None:
        status = found.stat
        if status.st_nlink > 1:
            first = self._links.first(status, number)
            if first != number:
                row = window.add(parent, name, entries.HARDLINK, status, False)
                window.block.content[row] = first
                window.linked[row] = Link(found.path, found.relative)
                return
            window.firsts[len(window.block)] = status
        if status.st_size == 0 and (liar := self._liar(status.st_dev)) and has_content(found.path, liar):
            row = window.add(parent, name, entries.FILE, status, True)
            window.expect()
            self._shared.report(found.path, "unreadable", "it has content, and its size is told as 0")
            window.drop(row)
            return
        old = self._cursor.match(found.key) if self._cursor is not None else None
        if old is not None and self._carry(window, found, parent, name, old):
            return
        row = window.add(parent, name, entries.FILE, status, True)
        window.expect()
        self._read(window, row, found.path, found.relative)

    def _read(self, window: Window, row: int, path: bytes, relative: bytes) -> None:
        above, slash, last = path.rpartition(b"/")  # a root that is a link is read where it leads to
        self._bundler.add(window, row, relative.rpartition(b"/")[0], above + slash, [last], Statuses.of([window.status(row)]))

    def _unlink(self, window: Window, row: int, link: Link) -> None:
        """A name whose file was not read by its first name is read by this one."""
        window.unlink(row)
        self._read(window, row, *link)
        self._bundler.flush()
        self._crew.drain()

    def _liar(self, device: int) -> str:
        if device not in self._liars:
            self._liars[device] = system.liar(device)
        return self._liars[device]

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
        new = window.add(parent, name, entries.FILE, status, False)
        window.block.content[new] = content
        window.block.flags[new] = block.flags[row]
        if row in block.extents:
            window.set_extents(new, block.extents[row])
        if row in block.attributes:
            window.set_attributes(new, block.attributes[row])
        return True

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
                self._bundler.flush()  # rows of the block may sit in a bundle that is not full yet
                self._crew.drain()
            self._links.settle(window, partial(self._unlink, window))
            self._windows.pop(0)
            window.finish(self._shared.mapped)
            self.users.update(window.block.uid)
            self.groups.update(window.block.gid)
            self._done(window)
