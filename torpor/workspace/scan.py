"""The entries of one directory: names in byte order, and the stat of many by one compiled call where there is one."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from torpor.native import kernels


class Status(NamedTuple):
    """What torpor needs of a stat, by the names that `os.stat_result` has for it. `error`: errno, if there is no stat."""

    st_dev: int
    st_ino: int
    st_size: int
    st_blocks: int
    st_nlink: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_mode: int
    st_uid: int
    st_gid: int
    error: int = 0


Stat = os.stat_result | Status
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_DIRECTORY = ord("d")
_NOTHING = Status(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
_make = Status._make
KIND = 0o170000  # the bits of a mode that tell a file from a directory
SIZE, LINKS, MODE = map(Status._fields.index, ("st_size", "st_nlink", "st_mode"))


def status_of(found: os.stat_result) -> Status:
    return Status(
        found.st_dev, found.st_ino, found.st_size, found.st_blocks, found.st_nlink, found.st_mtime_ns, found.st_ctime_ns,
        found.st_mode, found.st_uid, found.st_gid,
    )  # fmt: skip


def listing(fd: int) -> list[tuple[bytes, bool]]:
    """(name, is a directory) of all that is in an open directory, in the order of the names' bytes. Raises `OSError`."""
    with os.scandir(fd) as found:
        return sorted([(os.fsencode(entry.name), _is_directory(entry)) for entry in found])


class Entered(NamedTuple):
    """A directory that was opened. `fd`: -1 if it could not be, and `status.error` says why. `plain`: it has no extended attributes.

    `names`: as `listing` gives them; None if they are still to be read.
    """

    fd: int
    status: Status
    plain: bool = False
    names: list[tuple[bytes, bool]] | None = None


class Door:
    """Opens the directories of one tree, whose root lies on `device`; with the compiled kernels one call does all there is to do."""

    def __init__(self, device: int) -> None:
        lib = kernels.library()
        self._door = kernels.Door(lib, device) if lib is not None else None

    def enter(self, above: int, name: bytes) -> Entered:
        """Open the directory `name` in the open directory `above`. No link is followed."""
        door = self._door
        if door is not None:
            fd = door.enter(above, name)
            status = _make(door.status)
            if fd < 0:
                return Entered(fd, status)
            names = door.names
            return Entered(fd, status, door.plain, None if names is None else [(name[1:], name[0] == _DIRECTORY) for name in names])
        fd = -1
        try:
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=above)
            return Entered(fd, status_of(os.fstat(fd)))
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            return Entered(-1, _without(error))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def scan(fd: int, names: list[bytes]) -> list[Status]:
    """The stat of each of these entries of an open directory, links not followed."""
    lib = kernels.library()
    if lib is None or not names:
        return [_status(fd, name) for name in names]
    return list(map(_make, kernels.SEEN.iter_unpack(kernels.stat_many(lib, fd, names))))


def _status(fd: int, name: bytes) -> Status:
    try:
        return status_of(os.stat(name, dir_fd=fd, follow_symlinks=False))
    except OSError as error:
        return _without(error)


def look(path: bytes) -> Status:
    """The stat of a path, a link at its end not followed."""
    try:
        return status_of(os.lstat(path))
    except OSError as error:
        return _without(error)


def _without(error: OSError) -> Status:
    return _NOTHING._replace(error=error.errno or errno.EIO)
