"""Gathers small files into bundles, reads them, and lets a worker store each bundle as one chunk."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from mmap import mmap
from typing import TYPE_CHECKING

from torpor.codecs.choose import Chooser
from torpor.format.version import CHUNK_MAX, CLASS_BUNDLE, CLASS_CRITICAL, SMALL_FILE
from torpor.hibernate.small import Files, Filled, Small, fill, store
from torpor.hibernate.tools import Shared, Worker
from torpor.plan.bundles import FILL, ends_after, is_heavy, klass_of
from torpor.workspace.crew import Crew, Pool
from torpor.workspace.scan import Statuses, look

if TYPE_CHECKING:
    from torpor.hibernate.large import LargeFile
    from torpor.hibernate.window import Window

SLOW = 150e-6  # seconds a small file may take before the disk counts as slow …
STAY_SLOW = 16  # … for so many bundles
MOST = 4096  # files in a bundle


class _Bundle:
    """Files of one class that are to share a chunk."""

    def __init__(self, shared: Shared, kind: int) -> None:
        self.kind = kind
        self.chooser = Chooser(shared.policy, shared.level, kind)
        self.files = Files()
        self.size = 0


class Bundler:
    """Runs on the job's own thread. `large(window, row, path)` takes a file that is not small; `large_file` is one, for any thread."""

    def __init__(
        self,
        shared: Shared,
        crew: Crew[Worker],
        buffers: Pool,
        large: Callable[[Window, int, bytes], None],
        large_file: Callable[[Window, int, bytes], LargeFile],
    ) -> None:
        self._shared = shared
        self._crew = crew
        self._buffers = buffers
        self._large = large
        self._large_file = large_file
        self._slow = 0
        self._bundles = {kind: _Bundle(shared, kind) for kind in (CLASS_CRITICAL, CLASS_BUNDLE)}
        self._folder, self._heavy = b"", False  # of the last file

    def add(self, window: Window, row: int, folder: bytes, above: bytes, names: list[bytes], found: Statuses) -> None:
        """Files of one folder that stand in rows from `row` on, large ones too.

        `folder`: its path within the root, empty for the root. `above`: its whole path, with a slash at the end.
        """
        if folder != self._folder:
            self._folder, self._heavy = folder, any(map(is_heavy, folder.split(b"/")))
        sizes = found.column("st_size")
        total = sum(sizes)
        bundle = self._bundles[CLASS_BUNDLE]
        if self._heavy and bundle.size + total < FILL and total < SMALL_FILE and bundle.files.count + len(names) <= MOST:
            bundle.files.extend(window, row, above, names, found)  # all of them, and the bundle does not end there
            bundle.size += total
            return
        prefix = folder + b"/" if folder else b""
        first = 0  # of the files that are to go into `bundle` together

        def take(end: int) -> None:
            nonlocal first
            if first < end:
                bundle.files.extend(window, row + first, above, names[first:end], found[first:end])
            first = end

        for at, (name, size) in enumerate(zip(names, sizes, strict=True)):
            if size >= SMALL_FILE:
                take(at)
                first = at + 1
                self._large(window, row + at, above + name)
                continue
            if not self._heavy and (kind := klass_of(name, False)) != bundle.kind:
                take(at)
                bundle = self._bundles[kind]
            if bundle.size + size > CHUNK_MAX or bundle.files.count + at - first >= MOST:
                take(at)
                self._send(bundle)
            bundle.size += size
            if bundle.size >= FILL and ends_after(prefix + name, size, bundle.size):
                take(at + 1)
                self._send(bundle)
        take(len(names))

    def flush(self) -> None:
        """Send on what is waiting for more."""
        for bundle in self._bundles.values():
            self._send(bundle)

    def _send(self, bundle: _Bundle) -> None:
        files = bundle.files
        if files.count:
            self._shared.progress.stage("read").expect(bundle.size)
            bundle.files, bundle.size = Files(), 0
            self._read(files, bundle)

    def _read(self, files: Files, bundle: _Bundle) -> None:
        """Read small files here, and let a worker store them; on a slow disk, let workers read them too.

        Reading a small file is a handful of calls of a few microseconds. Threads that do that side by side spend more time handing
        the interpreter to each other than reading, so one thread does it as long as the disk answers at once.
        """
        if self._slow:
            self._slow -= 1
            self._crew.put(partial(self._read_there, files, bundle))
            return
        buffer = self._buffers.take()
        began = time.perf_counter()
        filled, rest = fill(self._shared, memoryview(buffer), files)
        spent = time.perf_counter() - began - filled.used / 1e9
        self._slow = STAY_SLOW if spent > SLOW * files.count else 0
        if filled.used:
            self._crew.put(partial(self._store, buffer, filled, bundle))
        else:
            self._buffers.give(buffer)
        self._again(rest, bundle)

    def _store(self, buffer: mmap, filled: Filled, bundle: _Bundle, worker: Worker) -> None:
        store(worker, memoryview(buffer), filled, bundle.kind, bundle.chooser)
        self._buffers.give(buffer)

    def _read_there(self, files: Files, bundle: _Bundle, worker: Worker) -> None:
        filled, rest = fill(self._shared, worker.view, files)
        if filled.used:
            store(worker, worker.view, filled, bundle.kind, bundle.chooser)
        for file in rest:
            large = self._large_file(file.window, file.row, file.path)
            for first, count in large.begin():
                large.read(worker, first, count)

    def _again(self, rest: list[Small], bundle: _Bundle) -> None:
        """Files that grew between the walk and the reading."""
        for file in rest:
            status = look(file.path)
            if status.error or status.st_size >= SMALL_FILE:
                self._large(file.window, file.row, file.path)  # it says what is wrong
            else:
                file.window.update(file.row, status, True)  # what is read from here on has this size, and these times
                alone = Files()
                alone.extend(file.window, file.row, b"", [file.path], Statuses.of([status]))
                self._read(alone, bundle)
