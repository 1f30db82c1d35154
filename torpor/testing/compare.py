"""Are two trees the same? Everything that a snapshot promises to keep, streamed: no file is held in memory."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch

from torpor.jobs import show_path

_TOP = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DIRECTORY = _TOP | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_PIECE = 1 << 20
_BLOCK = 4096  # holes are compared to the block
_ACLS = ("system.posix_acl_access", "system.posix_acl_default")


def compare_trees(a: str | bytes | os.PathLike[str], b: str | bytes | os.PathLike[str], *, ignore: Sequence[str] = ()) -> list[str]:
    """What differs between two trees (or files), a line each; empty if nothing does.

    Compared: types, names, bytes, permissions, owners, mtimes in ns (links' too), targets of links, which names share an inode, holes
    to the block of 4 KiB, `user.*` attributes and POSIX ACLs. `ignore`: patterns of relative paths, or of names.
    """
    compare = _Compare(ignore)
    left, right = os.fsencode(a), os.fsencode(b)
    first, second = os.stat(left), os.stat(right)
    if stat.S_ISDIR(first.st_mode) and stat.S_ISDIR(second.st_mode):
        compare.trees(left, right, first, second)
    else:
        compare.pair(left, right, first, second)
    return compare.found


class _Level:
    """One open pair of directories, and the names in either that are still to come (descending)."""

    def __init__(self, a: int, b: int, path: bytes) -> None:
        self.a, self.b, self.path = a, b, path
        self.left = {os.fsencode(name) for name in os.listdir(a)}
        self.right = {os.fsencode(name) for name in os.listdir(b)}
        self.todo = sorted(self.left | self.right, reverse=True)

    def close(self) -> None:
        os.close(self.a)
        os.close(self.b)


class _Compare:
    def __init__(self, ignore: Sequence[str]) -> None:
        self._ignore = ignore
        self._links: list[dict[tuple[int, int], bytes]] = [{}, {}]
        self.found: list[str] = []

    def _say(self, path: bytes, what: str) -> None:
        self.found.append(f"{show_path(path) or '.'}: {what}")

    def _ignored(self, path: bytes) -> bool:
        text = os.fsdecode(path)
        return any(fnmatch(text, pattern) or fnmatch(os.path.basename(text), pattern) for pattern in self._ignore)

    def trees(self, a: bytes, b: bytes, first: os.stat_result, second: os.stat_result) -> None:
        stack = [_Level(os.open(a, _TOP), os.open(b, _TOP), b"")]
        self._facts(b"", first, second)
        self._attributes(b"", stack[0].a, stack[0].b)
        try:
            while stack:
                level = stack[-1]
                if not level.todo:
                    stack.pop().close()
                    continue
                name = level.todo.pop()
                path = level.path + b"/" + name if level.path else name
                if self._ignored(path):
                    continue
                if name not in level.left or name not in level.right:
                    self._say(path, f"only in the {'first' if name in level.left else 'second'}")
                    continue
                facts = [os.stat(name, dir_fd=fd, follow_symlinks=False) for fd in (level.a, level.b)]
                if self.entry((level.a, name), facts[0], (level.b, name), facts[1], path):
                    self._enter(stack, level, name, path)
        finally:
            for level in stack:
                level.close()

    def _enter(self, stack: list[_Level], level: _Level, name: bytes, path: bytes) -> None:
        opened: list[int] = []
        try:
            opened.append(os.open(name, _DIRECTORY, dir_fd=level.a))
            opened.append(os.open(name, _DIRECTORY, dir_fd=level.b))
        except PermissionError as error:
            self._say(path, f"can't be compared: {error.strerror}")
            for fd in opened:
                os.close(fd)
            return
        stack.append(_Level(opened[0], opened[1], path))
        self._attributes(path, opened[0], opened[1])

    def pair(self, a: bytes, b: bytes, first: os.stat_result, second: os.stat_result) -> None:
        """Two single files."""
        above = os.open(os.path.dirname(a) or b".", _TOP)
        beside = os.open(os.path.dirname(b) or b".", _TOP)
        try:
            self.entry((above, os.path.basename(a)), first, (beside, os.path.basename(b)), second, b"")
        finally:
            os.close(above)
            os.close(beside)

    def entry(self, a: tuple[int, bytes], first: os.stat_result, b: tuple[int, bytes], second: os.stat_result, path: bytes) -> bool:
        """Compare one pair; True if both are directories, to be entered."""
        kind, other = stat.S_IFMT(first.st_mode), stat.S_IFMT(second.st_mode)
        if kind != other:
            self._say(path, f"{stat.filemode(first.st_mode)} and {stat.filemode(second.st_mode)}")
            return False
        self._facts(path, first, second)
        if kind == stat.S_IFDIR:
            return True
        leaders = [links.setdefault((s.st_dev, s.st_ino), path) for links, s in zip(self._links, (first, second), strict=True)]
        if leaders[0] != leaders[1]:
            self._say(path, f"shares its inode with {show_path(leaders[0])} and {show_path(leaders[1])}")
        if kind == stat.S_IFLNK:
            targets = [os.readlink(name, dir_fd=fd) for fd, name in (a, b)]
            if targets[0] != targets[1]:
                self._say(path, f"leads to {show_path(targets[0])} and {show_path(targets[1])}")
        elif kind == stat.S_IFREG and leaders == [path, path]:
            self._files(path, a, b)
        return False

    def _facts(self, path: bytes, first: os.stat_result, second: os.stat_result) -> None:
        pairs = {
            "permissions": (oct(first.st_mode & 0o7777), oct(second.st_mode & 0o7777)),
            "owner": ((first.st_uid, first.st_gid), (second.st_uid, second.st_gid)),
            "mtime": (first.st_mtime_ns, second.st_mtime_ns),
        }
        if stat.S_ISREG(first.st_mode):
            pairs["size"] = (first.st_size, second.st_size)
        for what, (one, two) in pairs.items():
            if one != two:
                self._say(path, f"{what} {one} and {two}")

    def _files(self, path: bytes, a: tuple[int, bytes], b: tuple[int, bytes]) -> None:
        opened: list[int] = []
        try:
            for fd, name in (a, b):
                opened.append(os.open(name, _FILE, dir_fd=fd))
            self._attributes(path, *opened)
            maps = [list(data_map(fd)) for fd in opened]
            if maps[0] != maps[1]:
                self._say(path, f"data at {maps[0][:4]} and {maps[1][:4]}")
            for start, end in sorted({*maps[0], *maps[1]}):
                if not self._same(opened[0], opened[1], start, end, path):
                    break
        except PermissionError as error:
            self._say(path, f"can't be compared: {error.strerror}")
        finally:
            for fd in opened:
                os.close(fd)

    def _same(self, a: int, b: int, start: int, end: int, path: bytes) -> bool:
        for at in range(start, end, _PIECE):
            length = min(_PIECE, end - at)
            if os.pread(a, length, at) != os.pread(b, length, at):
                self._say(path, f"other bytes within {length} from {at}")
                return False
        return True

    def _attributes(self, path: bytes, a: int, b: int) -> None:
        first, second = attributes(a), attributes(b)
        for name in sorted(first.keys() | second.keys()):
            if first.get(name) != second.get(name):
                self._say(path, f"attribute {name} {first.get(name)!r} and {second.get(name)!r}")


def data_map(fd: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each stretch of data of an open file, grown to whole blocks; all else is a hole."""
    size = os.fstat(fd).st_size
    at = start = end = 0
    while at < size:
        try:
            first = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        at = os.lseek(fd, first, os.SEEK_HOLE)
        first = first // _BLOCK * _BLOCK
        if end and first > end:
            yield start, end
            start = first
        elif not end:
            start = first
        end = -(-at // _BLOCK) * _BLOCK
    if end:
        yield start, end


def attributes(fd: int) -> dict[str, bytes]:
    """`user.*` attributes and POSIX ACLs of an open file or directory."""
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise
    return {name: os.getxattr(fd, name) for name in names if name.startswith("user.") or name in _ACLS}
