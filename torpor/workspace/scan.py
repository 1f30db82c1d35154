"""The entries of one directory: names in byte order, and the stat of many by one compiled call where there is one."""

from __future__ import annotations

import errno
import os
import stat
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from torpor.native import kernels


class Status(NamedTuple):
    """What torpor needs of a stat, by the names that `os.stat_result` has for it. `error`: errno, if there is no stat.

    Times lie between `FIRST_TIME` and `LAST_TIME`; one that does not is the nearest that does.
    """

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


OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_DIRECTORY = ord("d")
_NOTHING = Status(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
_made = partial(tuple.__new__, Status)  # as Status._make, without a call of Python
KIND = 0o170000  # the bits of a mode that tell a file from a directory
_SIZE = kernels.SEEN.size
FIRST_TIME, LAST_TIME = -9_223_372_036 * 10**9, 9_223_372_036 * 10**9 - 1  # ns since 1970 (docs/format.md §7): years 1677 to 2262
# Where in a record SEEN each field lies: the type of the array that takes it, and its place among items of that width.
_COLUMNS: dict[str, tuple[Literal["Q", "q", "I"], int]] = {
    **{name: ("Q", place) for place, name in enumerate(("st_dev", "st_ino", "st_size", "st_blocks", "st_nlink"))},
    "st_mtime_ns": ("q", 5), "st_ctime_ns": ("q", 6),
    "st_mode": ("I", 14), "st_uid": ("I", 15), "st_gid": ("I", 16),
}  # fmt: skip


class Statuses(Sequence[Status]):
    """Stats of many entries in one piece of memory, records `kernels.SEEN` one behind the other: whole columns of it are cheap."""

    __slots__ = ("data", "plain")

    def __init__(self, data: bytearray, plain: bool = False) -> None:
        """`plain`: they are known to be regular files, each of one name."""
        self.data = data
        self.plain = plain

    @classmethod
    def of(cls, found: Iterable[Status]) -> Statuses:
        return cls(bytearray().join([kernels.SEEN.pack(*status) for status in found]))

    def __len__(self) -> int:
        return len(self.data) // _SIZE

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            first, last, step = row.indices(len(self))
            if step != 1:
                raise ValueError("only rows that lie together")
            return Statuses(self.data[first * _SIZE : max(first, last) * _SIZE], self.plain)
        if row < 0:
            row += len(self)
        if not 0 <= row < len(self):
            raise IndexError(row)
        return _made(kernels.SEEN.unpack_from(self.data, row * _SIZE))

    def __iter__(self) -> Iterator[Status]:
        return map(_made, kernels.SEEN.iter_unpack(self.data))

    def column(self, name: str) -> array[int]:
        """All values of one field of `Status`."""
        typecode, place = _COLUMNS[name]
        out: array[int] = array(typecode)
        if self.data:
            out.frombytes(memoryview(self.data).cast(typecode)[place :: _SIZE // out.itemsize].tobytes())
        return out

    def checked(self) -> Statuses:
        """The same, with `plain` as it is."""
        self.plain = all(status.st_mode & KIND == stat.S_IFREG and status.st_nlink == 1 for status in self)
        return self


def status_of(found: os.stat_result) -> Status:
    return Status(
        found.st_dev, found.st_ino, found.st_size, found.st_blocks, found.st_nlink, _moment(found.st_mtime_ns),
        _moment(found.st_ctime_ns), found.st_mode, found.st_uid, found.st_gid,
    )  # fmt: skip


def _moment(time: int) -> int:
    """As kernels.h has it: file systems keep times for which 64 bits of nanoseconds are too few."""
    return min(max(time, FIRST_TIME), LAST_TIME)


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
            status = _made(door.status)
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


def scan(fd: int, names: list[bytes]) -> Statuses:
    """The stat of each of these entries of an open directory, links not followed."""
    lib = kernels.library()
    if lib is None or not names:
        return Statuses.of([_status(fd, name) for name in names]).checked()
    return Statuses(*kernels.stat_many(lib, fd, names))


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
