"""Removes what a restore finds too much or in its way, of any depth, without following a link.

Some things stay whatever the snapshot says: other file systems, since no snapshot of this one holds their files, and folders that torpor
keeps its own things in, such as the repository that is being read.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterable
from contextlib import suppress

from torpor.errors import TargetNotEmpty
from torpor.format import names
from torpor.jobs import RestoreJob, show_path
from torpor.storage.urls import file_path
from torpor.wake.folders import located, path_of

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HELD = 64  # folders of one path that are held open: more than few trees are deep, less than any limit of descriptors
_NAMED = 20
_FILED = ((names.CONFIG, (names.PACKS, names.SNAPSHOTS, names.KEYS)), ("repositories.json", ("keys",)))  # a repository, a home
MOUNTED = "another file system is mounted there"
KEPT = "torpor keeps its own things there"

Mount = tuple[int, int]


def own_folders(job: RestoreJob) -> frozenset[tuple[int, int]]:
    """Device and inode of the folders of this host that a job reads from or keeps its records in."""
    paths = [job.state, job.cache, *(os.fsencode(file_path(url)) for url in job.places if url.startswith("file:"))]
    found: set[tuple[int, int]] = set()
    for path in filter(None, paths):
        with suppress(OSError):
            status = os.stat(path)
            found.add((status.st_dev, status.st_ino))
    return frozenset(found)


def mount_of(fd: int) -> Mount:
    """What an open folder is mounted as: its device, and the number of the mount, by which a bind mount of the same device differs."""
    device = os.fstat(fd).st_dev
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb", buffering=0) as file:
            _, found, rest = file.read(512).partition(b"mnt_id:")
    except OSError:
        return device, 0
    return device, int(rest.split(None, 1)[0]) if found else 0


def open_up(handle: int, name: bytes, status: os.stat_result) -> None:
    """Let its owner into a directory, for the time of the restore. Root may lack the right to do without."""
    if status.st_mode & 0o700 != 0o700:
        fd = os.open(name, _LOOK, dir_fd=handle)
        try:
            with suppress(PermissionError):  # what is tried in it next says what is wrong
                os.chmod(f"/proc/self/fd/{fd}", 0o700)
        finally:
            os.close(fd)


class _Level:
    """A folder on the way down: its handle (-1 while it is not held), its name in the one above, the names still to look at."""

    def __init__(self, fd: int, name: bytes, mode: int) -> None:
        self.fd = fd
        self.name = name
        self.mode = mode
        self.names = [os.fsencode(found) for found in os.listdir(fd)]
        status = os.fstat(fd)
        self.id = status.st_dev, status.st_ino
        self.stays = False  # something in it does


class Remover:
    """`left`: what had to stay, and why, the first of it; `removed`: the first paths that were (or, in a dry run, would be) removed."""

    def __init__(self, own: frozenset[tuple[int, int]]) -> None:
        self._own = own
        self._lock = threading.Lock()
        self.left: list[str] = []
        self.left_count = 0
        self.removed: list[bytes] = []

    def leave(self, handle: int, name: bytes, why: str) -> None:
        with self._lock:
            self.left_count += 1
            if len(self.left) < _NAMED:
                self.left.append(f"{show_path(path_of(handle, name))} ({why})")

    def name(self, handle: int, name: bytes) -> None:
        """Note that this is too much."""
        if len(self.removed) < _NAMED:
            self.removed.append(path_of(handle, name))

    def reason(self, fd: int, mount: Mount) -> str:
        """Why an open folder, found in a folder of that mount, must stay; empty if it need not."""
        if mount_of(fd) != mount:
            return MOUNTED
        status = os.fstat(fd)
        return KEPT if (status.st_dev, status.st_ino) in self._own or _is_filed(fd) else ""

    def reason_for(self, handle: int, name: bytes) -> str:
        """As `reason`, for a folder by its name, without a change to it."""
        fd = os.open(name, _LOOK, dir_fd=handle)
        try:
            return self.reason(fd, mount_of(handle))
        finally:
            os.close(fd)

    def tree(self, handle: int, name: bytes) -> int:
        """Remove whatever `name` is; the number of entries removed. What must stay does, with the folders above it, and is noted."""
        count, left = self._walk(handle, name, True)
        for path, why in left:
            self.leave(-1, path, why)
        return count

    def clear(self, handle: int, name: bytes) -> None:
        """Remove what is in the way. Raises `TargetNotEmpty`, and removes nothing, if something of it must stay."""
        _, left = self._walk(handle, name, False)
        if not left:
            _, left = self._walk(handle, name, True)
        if left:
            path, why = left[0]
            raise TargetNotEmpty(
                f"{show_path(path_of(handle, name))} is in the way of what the snapshot has there, and {show_path(path)} must stay: {why}.",
                safe="It was left alone.",
                remedy="Unmount it or move it away, then run the restore again; or restore to another folder.",
            )

    def notes(self) -> list[str]:
        """What was left, for people."""
        if not self.left_count:
            return []
        some = "; ".join(self.left)
        more = f"; and {self.left_count - len(self.left)} more" if self.left_count > len(self.left) else ""
        return [f"Left alone, although the snapshot lacks it: {some}{more}."]

    def _walk(self, handle: int, name: bytes, remove: bool) -> tuple[int, list[tuple[bytes, str]]]:
        """Entries removed; what stays, by its path, and why. Without `remove`, only look."""
        left: list[tuple[bytes, str]] = []
        if not stat.S_ISDIR(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
            return (_unlink(handle, name, left) if remove else 0), left
        mount, count = mount_of(handle), 0
        levels: list[_Level] = []
        try:
            top = self._enter(handle, name, mount, left)
            levels += [top] if top is not None else []
            while levels:
                level = levels[-1]
                if level.names:
                    child = level.names.pop()
                    if stat.S_ISDIR(os.stat(child, dir_fd=level.fd, follow_symlinks=False).st_mode):
                        inner = self._enter(level.fd, child, mount, left)
                        if inner is None:
                            level.stays = True
                            continue
                        levels.append(inner)
                        if len(levels) > _HELD:
                            _let_go(levels[-_HELD - 1])
                    elif remove:
                        done = _unlink(level.fd, child, left)
                        count += done
                        level.stays |= not done
                    continue
                above = levels[-2] if len(levels) > 1 else None
                if above is not None and above.fd < 0:
                    above.fd = _back(level.fd, above.id)
                if (level.stays or not remove) and level.mode & 0o700 != 0o700:
                    os.fchmod(level.fd, stat.S_IMODE(level.mode))
                _let_go(levels.pop())
                if level.stays and above is not None:
                    above.stays = True
                elif remove and not level.stays:
                    within = handle if above is None else above.fd
                    try:
                        os.rmdir(level.name, dir_fd=within)
                    except OSError as error:
                        raise located(error, within, level.name) from error
                    count += 1
        finally:
            for level in levels:
                _let_go(level)
        return count, left

    def _enter(self, handle: int, name: bytes, mount: Mount, left: list[tuple[bytes, str]]) -> _Level | None:
        """A folder to be emptied; None for one that stays."""
        try:
            look = os.open(name, _LOOK, dir_fd=handle)
            try:
                mode = os.fstat(look).st_mode
                why = self.reason(look, mount)
            finally:
                os.close(look)
            if not why:
                open_up(handle, name, os.stat(name, dir_fd=handle, follow_symlinks=False))
                fd = os.open(name, _FOLDER, dir_fd=handle)
                try:
                    why = self.reason(fd, mount)  # again: it may not have let anybody look into it
                    if not why:
                        return _Level(fd, name, mode)
                except BaseException:
                    os.close(fd)
                    raise
                with suppress(OSError):
                    os.fchmod(fd, stat.S_IMODE(mode))
                os.close(fd)
        except OSError as error:
            raise located(error, handle, name) from error
        left.append((path_of(handle, name), why))
        return None


def _is_filed(fd: int) -> bool:
    """Whether a folder looks like a repository or a home of torpor. One that nobody may look into does not."""
    for file, folders in _FILED:
        if _is(fd, file, stat.S_IFREG) and any(_is(fd, folder.rstrip("/"), stat.S_IFDIR) for folder in folders):
            return True
    return False


def _is(fd: int, name: str, kind: int) -> bool:
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode) == kind
    except OSError:
        return False


def _unlink(handle: int, name: bytes, left: list[tuple[bytes, str]]) -> int:
    """Remove what is no folder; 0 for a file that something is mounted on."""
    try:
        os.unlink(name, dir_fd=handle)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise located(error, handle, name) from error
        left.append((path_of(handle, name), MOUNTED))
        return 0
    return 1


def _let_go(level: _Level) -> None:
    if level.fd >= 0:
        os.close(level.fd)
        level.fd = -1


def _back(fd: int, expected: tuple[int, int]) -> int:
    """The folder above an open one, which must still be the one that it was reached from."""
    above = os.open("..", _FOLDER, dir_fd=fd)
    status = os.fstat(above)
    if (status.st_dev, status.st_ino) != expected:
        os.close(above)
        raise TargetNotEmpty(
            "A folder of the target was moved while it was being removed.",
            safe="What it holds was left alone.",
            remedy="Stop what writes there, then run the restore again.",
        )
    return above


def unsaved(problems: Iterable[tuple[bytes, str, str]]) -> frozenset[bytes] | None:
    """Paths that a snapshot says it could not save; None if it does not say all of them. Of each: path, kind, detail."""
    found: set[bytes] = set()
    for path, kind, detail in problems:
        if kind != "special" and detail.startswith("and ") and detail.endswith(" more"):
            return None
        found.add(path)
    return frozenset(found)
