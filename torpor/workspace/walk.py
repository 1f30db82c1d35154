"""Walks trees in the format's order: each directory's children sorted by the bytes of their names, depth first."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from functools import partial
from typing import NamedTuple

from torpor.errors import NotFound, UsageError
from torpor.format.tree import DEPTH_MAX
from torpor.jobs import Scope, show_path, show_text
from torpor.workspace import system
from torpor.workspace.excludes import IGNORE_FILE, Excludes
from torpor.workspace.scan import KIND, OPEN_DIRECTORY, Door, Status, Statuses, listing, scan, status_of

_SAVED = {stat.S_IFREG, stat.S_IFLNK}


class Folder(NamedTuple):
    """An open directory of a walk. `key` orders entries over all roots; `depth`: of what is in it, 1 in a root.

    `relative`: the path within the root, empty for the root itself. `path` has no slash at its end. `fd` is valid until the next yield.
    """

    root: int
    depth: int
    key: bytes
    relative: bytes
    path: bytes
    fd: int


class Run(NamedTuple):
    """Files and symbolic links of one folder that no directory stands between, in order: at most `RUN_MAX`."""

    folder: Folder
    names: list[bytes]
    stats: Statuses


class Found(NamedTuple):
    """One entry, with the fields of `Folder`, but for its own `path`."""

    root: int
    depth: int
    key: bytes
    relative: bytes
    name: bytes
    path: bytes
    stat: Status
    fd: int  # valid until the next entry: of a directory itself, else of the one it lies in; -1 if there is none
    plain: bool = False  # a directory that is known to have no extended attributes


Report = Callable[[bytes, str, str], None]
RUN_MAX = 256
OWN = "own"  # told of a folder of torpor's own, which is no part of any workspace; the detail is its path as it was named
RULE = "rule"  # told of a `.torporignore` with lines that don't parse, which exclude nothing; the detail names them
KERNELS = "a file system that the kernel makes up: it holds nobody's files"


def walk(scope: Scope, report: Report) -> Generator[Found, None, None]:
    """Every entry of every root, sockets and devices left out. `report(path, kind, detail)` is told what can't be entered.

    Memory: the names of the directories that are open, no more. Close it where it may not come to its end, as `runs`.
    """
    with closing(runs(scope, report)) as parts:
        for part in parts:
            if isinstance(part, Found):
                yield part
            else:
                yield from found_in(part)


def found_in(run: Run) -> Iterator[Found]:
    return map(partial(_found, run.folder), run.names, run.stats)


def _found(folder: Folder, name: bytes, status: Status) -> Found:
    root, depth, key, relative, path, fd = folder
    return Found(root, depth, key + b"\0" + name, relative + b"/" + name if relative else name, name, path + b"/" + name, status, fd)


def runs(scope: Scope, report: Report) -> Generator[Run | Found, None, None]:
    """As `walk`, with directories (and roots that are files) one by one, and by the run what lies between them.

    Close it where it may not come to its end: it holds directories open.
    """
    for number, root in enumerate(scope.roots):
        try:
            status = os.stat(root)
        except OSError as error:
            raise NotFound(
                f"{show_path(root)} can't be read: {error.strerror}.",
                safe="No snapshot was made.",
                remedy="Name a folder or file that exists.",
            ) from None
        if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
            raise UsageError(f"{show_path(root)} is neither a folder nor a file.", safe="No snapshot was made.")
        yield from _Walker(number, root, scope, report).walk(status)


def _folders(paths: list[bytes]) -> dict[tuple[int, int], bytes]:
    """Those of these paths that are folders, by device and inode."""
    found: dict[tuple[int, int], bytes] = {}
    for path in paths:
        with suppress(OSError, ValueError):
            status = os.stat(path)
            if stat.S_ISDIR(status.st_mode):
                found.setdefault((status.st_dev, status.st_ino), path)
    return found


class _Walker:
    def __init__(self, number: int, root: bytes, scope: Scope, report: Report) -> None:
        self._number = number
        self._root = root
        self._report = report
        self._scope = scope
        self._excludes = Excludes(scope.excludes, scope.default_excludes)
        self._device = -1
        self._own = _folders(scope.leave)
        self._listed: list[tuple[bytes, bool]] | None = None  # of the directory that was yielded last

    def walk(self, status: os.stat_result) -> Iterator[Run | Found]:
        prefix = b"%08d" % self._number
        if not stat.S_ISDIR(status.st_mode):
            # A link that is named as a root stands for what it leads to, as with folders.
            path = os.path.realpath(self._root) if os.path.islink(self._root) else self._root
            yield Found(self._number, 0, prefix, b"", os.path.basename(self._root), path, status_of(status), -1)
            return
        fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        top = Folder(self._number, 1, prefix, b"", self._root.rstrip(b"/"), fd)
        stack: list[tuple[Folder, Iterator[Run | Found]]] = [(top, self._inside(top, self._root, None))]
        try:
            found = status_of(os.fstat(fd))
            self._device = found.st_dev
            self._door = Door(self._device)
            yield Found(self._number, 0, prefix, b"", b"", self._root, found, fd)
            while stack:
                part = next(stack[-1][1], None)
                if part is None:
                    folder, _ = stack.pop()
                    os.close(folder.fd)
                    self._excludes.leave(folder.relative)
                    continue
                if isinstance(part, Run):
                    yield part
                    continue
                names = self._listed
                if part.fd < 0:
                    yield part
                    continue
                below = Folder(self._number, part.depth + 1, part.key, part.relative, part.path, part.fd)
                stack.append((below, iter(())))  # it is closed from here, whatever becomes of the walk
                yield part
                if self._scope.one_file_system and part.stat.st_dev != self._device:
                    made_up = system.is_made_up(part.path, part.stat.st_dev)
                    self._report(part.path, "mount", KERNELS if made_up else "another file system: its content is left out")
                else:
                    stack[-1] = below, self._inside(below, part.path, names)
        finally:
            for folder, _ in stack:
                os.close(folder.fd)

    def _inside(self, folder: Folder, path: bytes, names: list[tuple[bytes, bool]] | None) -> Iterator[Run | Found]:
        """What is in a folder. A directory is yielded with a descriptor of its own, if it can be entered."""
        try:
            names = listing(folder.fd) if names is None else names
        except OSError as error:
            self._report(path, "unreadable", error.strerror or "")
            return
        if (IGNORE_FILE, False) in names:
            self._read_ignore(folder.fd, folder.relative, path)
        at, end = 0, len(names)
        while at < end:
            if names[at][1]:
                yield from self._directory(folder, names[at][0])
                at += 1
                continue
            last = at
            while last < end and last - at < RUN_MAX and not names[last][1]:
                last += 1
            yield from self._run(folder, [name for name, _ in names[at:last]])
            at = last

    def _run(self, folder: Folder, names: list[bytes]) -> Iterator[Run | Found]:
        """What was listed as something else than a directory, as it is now."""
        names = self._excludes.keep(folder.relative, names)
        stats = scan(folder.fd, names)
        if not stats.plain and not {status.st_mode & KIND for status in stats} <= _SAVED:
            first = 0
            for row, (name, status) in enumerate(zip(names, stats, strict=True)):
                if status.st_mode & KIND in _SAVED:
                    continue
                if first < row:
                    yield Run(folder, names[first:row], stats[first:row].checked())
                first = row + 1
                if stat.S_ISDIR(status.st_mode):
                    yield from self._directory(folder, name)
                else:
                    self._refuse(folder.path + b"/" + name, status)
            names, stats = names[first:], stats[first:].checked()
        if names:
            yield Run(folder, names, stats)

    def _refuse(self, path: bytes, status: Status) -> None:
        if status.error == errno.ENOENT:
            self._report(path, "vanished", "")
        elif status.error:
            self._report(path, "unreadable", os.strerror(status.error))
        else:
            self._report(path, "special", stat.filemode(status.st_mode)[0])

    def _directory(self, folder: Folder, name: bytes) -> Iterator[Run | Found]:
        if self._excludes.drops(folder.relative, name, True):
            return
        path = folder.path + b"/" + name
        if folder.depth >= DEPTH_MAX:
            self._report(path, "unreadable", f"it lies deeper than {DEPTH_MAX} folders")
            return
        child, status, plain, self._listed = self._door.enter(folder.fd, name)
        if child < 0:
            why = os.strerror(status.error)
            (status,) = scan(folder.fd, [name])
            if not stat.S_ISDIR(status.st_mode):  # it has become something else, or is gone
                yield from self._run(folder, [name])
                return
            self._report(path, "unreadable", why)
        if self._own and (own := self._own.get((status.st_dev, status.st_ino))) is not None:
            if child >= 0:
                os.close(child)
            self._report(path, OWN, show_path(own))
            return
        yield _found(folder, name, status)._replace(fd=child, plain=plain)

    def _read_ignore(self, fd: int, relative: bytes, path: bytes) -> None:
        try:
            ignore = os.open(IGNORE_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=fd)
        except OSError as error:
            self._report(path + b"/" + IGNORE_FILE, "unreadable", error.strerror or "")
            return
        try:
            if stat.S_ISREG(os.fstat(ignore).st_mode):
                bad = self._excludes.enter(relative, os.read(ignore, 1 << 20))
                if bad:
                    lines = ", ".join(show_text(line[:100]) for line in bad[:5])
                    self._report(path + b"/" + IGNORE_FILE, RULE, f"{lines} and {len(bad) - 5} more" if len(bad) > 5 else lines)
        finally:
            os.close(ignore)


PATH_MAX = 4096  # bytes of a path that one system call takes
_REGULAR = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def open_regular(path: bytes) -> int:
    """Open a file for reading without following a link at its end and without waiting on a fifo."""
    if len(path) < PATH_MAX:
        return os.open(path, _REGULAR)
    above = os.open(b"/", OPEN_DIRECTORY)
    try:
        while len(path) >= PATH_MAX:
            end = path.rindex(b"/", 0, PATH_MAX)
            below = os.open(path[:end].lstrip(b"/"), OPEN_DIRECTORY, dir_fd=above)
            os.close(above)
            above, path = below, path[end:]
        return os.open(path.lstrip(b"/"), _REGULAR, dir_fd=above)
    finally:
        os.close(above)
