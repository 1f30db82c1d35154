"""Walks trees in the format's order: each directory's children sorted by the bytes of their names, depth first."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torpor.errors import NotFound
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
    attributes_fd: int  # an open descriptor of a directory, else -1; valid until the next entry


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
            yield Found(self._number, 0, prefix, b"", os.path.basename(self._root), self._root, status, -1)
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
        with os.fdopen(ignore, "rb") as file:
            self._excludes.enter(relative, file.read(1 << 20))


def open_regular(path: bytes) -> int:
    """Open a file for reading without following a link at its end and without waiting on a fifo."""
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
