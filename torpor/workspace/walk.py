"""Walks trees in the format's order: each directory's children sorted by the bytes of their names, depth first."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torpor.errors import NotFound, UsageError
from torpor.format.tree import DEPTH_MAX
from torpor.jobs import Scope, show_path
from torpor.workspace.excludes import IGNORE_FILE, Excludes

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Found(NamedTuple):
    """One entry. `key` orders entries over all roots; `relative` is the path within the root (empty for the root itself)."""

    root: int
    depth: int
    key: bytes
    relative: bytes
    name: bytes
    path: bytes
    stat: os.stat_result
    fd: int  # valid until the next entry: of a directory itself, else of the one it lies in; -1 if there is none


Report = Callable[[bytes, str, str], None]


def walk(scope: Scope, report: Report) -> Iterator[Found]:
    """Every entry of every root, sockets and devices left out. `report(path, kind, detail)` is told what can't be entered.

    Memory: the names of the directories that are open, no more.
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


class _Walker:
    def __init__(self, number: int, root: bytes, scope: Scope, report: Report) -> None:
        self._number = number
        self._root = root
        self._report = report
        self._scope = scope
        self._excludes = Excludes(scope.excludes, scope.default_excludes)
        self._device = -1

    def walk(self, status: os.stat_result) -> Iterator[Found]:
        prefix = b"%08d" % self._number
        if not stat.S_ISDIR(status.st_mode):
            # A link that is named as a root stands for what it leads to, as with folders.
            path = os.path.realpath(self._root) if os.path.islink(self._root) else self._root
            yield Found(self._number, 0, prefix, b"", os.path.basename(self._root), path, status, -1)
            return
        fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        status = os.fstat(fd)
        self._device = status.st_dev
        # One level per open directory: descriptor, names still to come (reversed), relative path, absolute path, key.
        stack: list[tuple[int, list[bytes], bytes, bytes, bytes]] = []
        try:
            yield Found(self._number, 0, prefix, b"", b"", self._root, status, fd)
            stack.append((fd, self._names(fd, b"", self._root), b"", self._root.rstrip(b"/"), prefix))
            while stack:
                fd, todo, relative, absolute, key = stack[-1]
                if not todo:
                    os.close(fd)
                    stack.pop()
                    self._excludes.leave(relative)
                    continue
                name = todo.pop()
                path = absolute + b"/" + name
                try:
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    self._report(path, "vanished", "")
                    continue
                except OSError as error:
                    self._report(path, "unreadable", error.strerror or "")
                    continue
                mode = status.st_mode
                directory = stat.S_ISDIR(mode)
                if self._excludes.drops(relative, name, directory):
                    continue
                below = relative + b"/" + name if relative else name
                if not directory:
                    if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                        yield Found(self._number, len(stack), key + b"\0" + name, below, name, path, status, fd)
                    else:
                        self._report(path, "special", stat.filemode(mode)[0])
                    continue
                if len(stack) >= DEPTH_MAX:
                    self._report(path, "unreadable", f"it lies deeper than {DEPTH_MAX} folders")
                    continue
                child = self._enter(fd, name, path)
                try:
                    if child is not None:
                        status = os.fstat(child)
                    yield Found(self._number, len(stack), key + b"\0" + name, below, name, path, status, -1 if child is None else child)
                    if child is not None:
                        if self._scope.one_file_system and status.st_dev != self._device:
                            self._report(path, "mount", "another file system: its content is left out")
                        else:
                            stack.append((child, self._names(child, below, path), below, path, key + b"\0" + name))
                            child = None
                finally:
                    if child is not None:
                        os.close(child)
        finally:
            for level in stack:
                os.close(level[0])

    def _enter(self, fd: int, name: bytes, path: bytes) -> int | None:
        try:
            return os.open(name, _OPEN_DIR, dir_fd=fd)
        except OSError as error:
            self._report(path, "unreadable", error.strerror or "")
            return None

    def _names(self, fd: int, relative: bytes, path: bytes) -> list[bytes]:
        try:
            names = [os.fsencode(name) for name in os.listdir(fd)]
        except OSError as error:
            self._report(path, "unreadable", error.strerror or "")
            return []
        names.sort(reverse=True)
        if IGNORE_FILE in names:
            self._read_ignore(fd, relative, path)
        return names

    def _read_ignore(self, fd: int, relative: bytes, path: bytes) -> None:
        try:
            ignore = os.open(IGNORE_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=fd)
        except OSError as error:
            self._report(path + b"/" + IGNORE_FILE, "unreadable", error.strerror or "")
            return
        try:
            if stat.S_ISREG(os.fstat(ignore).st_mode):
                self._excludes.enter(relative, os.read(ignore, 1 << 20))
        finally:
            os.close(ignore)


PATH_MAX = 4096  # bytes of a path that one system call takes
_REGULAR = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def open_regular(path: bytes) -> int:
    """Open a file for reading without following a link at its end and without waiting on a fifo."""
    if len(path) < PATH_MAX:
        return os.open(path, _REGULAR)
    above = os.open(b"/", _OPEN_DIR)
    try:
        while len(path) >= PATH_MAX:
            end = path.rindex(b"/", 0, PATH_MAX)
            below = os.open(path[:end].lstrip(b"/"), _OPEN_DIR, dir_fd=above)
            os.close(above)
            above, path = below, path[end:]
        return os.open(path.lstrip(b"/"), _REGULAR, dir_fd=above)
    finally:
        os.close(above)
