"""The final check: is the workspace still what the snapshot holds, and is anybody about to change it?"""

from __future__ import annotations

import errno
import fnmatch
import os
import stat
import time
from array import array
from contextlib import closing

from blake3 import blake3

from torpor.errors import NotFound
from torpor.format import entries
from torpor.format.version import CHUNK_MAX
from torpor.hibernate.openfiles import open_for_writing
from torpor.jobs import CheckJob, CheckResult, show_path
from torpor.workspace import system
from torpor.workspace.record import RACY, Record, open_record
from torpor.workspace.recorded import Recorded, recorded
from torpor.workspace.state import State, workspace_id
from torpor.workspace.walk import KERNELS, OWN, Found, open_regular, walk

LISTED = 100


def run(job: CheckJob) -> CheckResult:
    """Compare every file's stat with the record of `job.snapshot`; racy entries are read and their ids compared."""
    began = time.monotonic()
    at = time.time()
    for root in job.scope.roots:
        system.syncfs(root)
    state = State(job.state)
    record = open_record(state.record(workspace_id(job.repository, job.scope.roots)))
    if record is not None and (record.footer.snapshot != job.snapshot or record.footer.rental != state.rental()):
        record.close()
        record = None
    if record is None:
        raise NotFound(
            f"This machine has no record of snapshot {job.snapshot}, so it can't tell what changed since.",
            safe="Nothing was destroyed.",
            remedy="Take a new snapshot of the machine first.",
        )
    try:
        check = _Check(job, record)
        check.run()
    finally:
        record.close()
    busy = open_for_writing([os.path.abspath(root) for root in job.scope.roots])
    opened = [f"{show_path(path)}: {who}" for path, who in sorted(busy.items()) if not check.ignored(path)]
    return CheckResult(
        snapshot=job.snapshot, rental=record.footer.rental, time=at, changed=check.count, changed_paths=check.changed,
        open_files=opened, problems=check.problems + _elsewhere(state, job.scope.roots), seconds=round(time.monotonic() - began, 3),
    )  # fmt: skip


def _elsewhere(state: State, roots: list[bytes]) -> list[str]:
    """Folders that are no part of this workspace, and that torpor saved or woke on this very machine: they would go with it."""
    mine = [os.path.realpath(root) for root in roots]
    lines: set[str] = set()
    for path in state.records():
        record = open_record(path)
        if record is None:
            continue
        with closing(record):
            footer = record.footer
            if footer.rental != state.rental():
                continue
            for root in map(os.path.realpath, footer.roots):
                inside = any(root == one or root.startswith(one.rstrip(b"/") + b"/") for one in mine)
                if not inside and os.path.lexists(root):
                    lines.add(f"elsewhere: {show_path(root)}")
    return sorted(lines)


class _Check:
    def __init__(self, job: CheckJob, record: Record) -> None:
        self._job = job
        self._record = record
        self._rows = recorded(record)
        self._next: Recorded | None = next(self._rows, None)
        self._roots = [os.path.abspath(root) for root in job.scope.roots]
        self._buffer = memoryview(bytearray(CHUNK_MAX))
        self.count = 0
        self.changed: list[str] = []
        self.problems: list[str] = []

    def ignored(self, path: bytes) -> bool:
        text = os.fsdecode(path)
        return any(fnmatch.fnmatch(text, pattern) or fnmatch.fnmatch(os.path.basename(text), pattern) for pattern in self._job.ignore)

    def run(self) -> None:
        with closing(walk(self._job.scope.without(self._job.state), self._report)) as there:
            for found in there:
                self._gone_until(found.key)
                if self._next is None or self._next.key != found.key:
                    self._add(found.path, "new")
                    continue
                self._compare(found, self._next)
                self._next = next(self._rows, None)
        self._gone_until(b"\xff")

    def _report(self, path: bytes, kind: str, detail: str) -> None:
        if kind == OWN and detail != show_path(self._job.state) and not self.ignored(path):
            self.problems.append(f"{kind}: {show_path(path)}")  # a store, or keys, that would go with the machine
        if kind in ("unreadable", "vanished", "mount") and detail != KERNELS and not self.ignored(path):
            self.problems.append(f"{kind}: {show_path(path)}")

    def _add(self, path: bytes, why: str) -> None:
        if self.ignored(path):
            return
        self.count += 1
        if len(self.changed) < LISTED:
            self.changed.append(f"{why}: {show_path(path)}")

    def _gone_until(self, key: bytes) -> None:
        """Entries of the record that stand before `key` and were not met are gone."""
        while self._next is not None and self._next.key < key:
            old = self._next
            if old.block.type[old.row] != entries.ABSENT:
                self._add(self._path(old.key), "gone")
            self._next = next(self._rows, None)

    def _path(self, key: bytes) -> bytes:
        root, _, rest = key.partition(b"\0")
        base = self._roots[int(root)]
        return base.rstrip(b"/") + b"/" + rest.replace(b"\0", b"/") if rest else base

    def _compare(self, found: Found, old: Recorded) -> None:
        block, row = old.block, old.row
        kind, status = block.type[row], found.stat
        mode = status.st_mode
        if stat.S_ISREG(mode) and kind in (entries.FILE, entries.HARDLINK):
            if kind == entries.HARDLINK:
                same = block.mtime[row] == status.st_mtime_ns and old.stats.ctime[row] == status.st_ctime_ns
            else:
                same = (
                    block.size[row] == status.st_size
                    and block.mtime[row] == status.st_mtime_ns
                    and old.stats.ctime[row] == status.st_ctime_ns
                    and not block.flags[row] & entries.TORN
                    and (not old.stats.flags[row] & RACY or self._same_bytes(found, block.content[row]))
                )
        elif stat.S_ISLNK(mode) and kind == entries.SYMLINK:
            same = os.readlink(found.name, dir_fd=found.fd) == block.content[row]
        elif stat.S_ISDIR(mode) and kind == entries.DIRECTORY:
            same = block.mtime[row] == status.st_mtime_ns and old.stats.ctime[row] == status.st_ctime_ns
        else:
            same = kind == entries.ABSENT
        if not same:
            self._add(found.path, "changed")

    def _same_bytes(self, found: Found, content: entries.Content) -> bool:
        """Read a racy file: its stat can't tell whether it changed within one tick of the clock."""
        try:
            fd = open_regular(found.path)
        except OSError:
            return False
        try:
            if isinstance(content, entries.Bundled):
                return self._hash(fd, 0, found.stat.st_size) == content.id
            if isinstance(content, entries.Chunked):
                return self._same_chunks(fd, content.refs)
            return os.fstat(fd).st_size == 0
        finally:
            os.close(fd)

    def _same_chunks(self, fd: int, refs: array[int]) -> bool:
        chunks = self._record.chunks
        at = 0
        for place in refs:
            length = chunks.raw[place]
            if _has_data(fd, at, at + length) if chunks.is_hole(place) else self._hash(fd, at, length) != chunks.id(place):
                return False
            at += length
        return True

    def _hash(self, fd: int, offset: int, length: int) -> bytes:
        done = 0
        while done < length:
            got = os.preadv(fd, [self._buffer[done:length]], offset + done)
            if got == 0:
                return b""
            done += got
        return blake3(self._buffer[:length], key=self._job.id_key).digest()


def _has_data(fd: int, start: int, end: int) -> bool:
    """Whether anything was written to what was a hole."""
    try:
        return os.lseek(fd, start, os.SEEK_DATA) < end
    except OSError as error:
        if error.errno == errno.ENXIO:
            return False
        raise
