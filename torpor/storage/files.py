"""Objects as files: what the local store and a host's `file:` requests share. Works on open folders, so no path is walked twice.

A new object is written beside its place under a name that begins with `.tmp-` and then linked or renamed, so it appears whole.
Symbolic links are not followed. `OSError` becomes one of torpor's errors in `disk`, and nowhere else.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeVar

from torpor import errors
from torpor.storage.base import Missing, Refused, check_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

TEMP = ".tmp-"
TRIES = 10
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
BUFFERS_MAX = 1024  # IOV_MAX of Linux and macOS; what POSIX promises is 16, which no system here stops at

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_LINKS = frozenset({errno.EPERM, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP})
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_REFUSED = {
    errno.EACCES: "Give this user access to it.",
    errno.EPERM: "Give this user access to it.",
    errno.EROFS: "Mount it writable.",
    errno.EFBIG: "Raise the limit on file sizes.",
    errno.EISDIR: "A folder has the object's name; move it away.",
    errno.ENOTDIR: "A file or a link stands where a folder must be; move it away.",
    errno.ELOOP: "Replace the symbolic link by what it points to.",
    errno.ENAMETOOLONG: "Use a file system with longer names.",
    errno.EOPNOTSUPP: "Use a file system that has hard links, or renames without replacing.",
    errno.EINVAL: "Use a file system that has hard links, or renames without replacing.",
    errno.ENOSYS: "Use a file system that has hard links, or renames without replacing.",
}


@contextmanager
def disk(verb: Literal["read", "write", "delete", "list", "sync"], name: str, where: str) -> Iterator[None]:
    """`with disk("read", name, where):` the one place where an `OSError` of a store becomes an error of torpor."""
    try:
        yield
    except OSError as error:
        raise _translate(error, verb, name, where) from error


def _translate(error: OSError, verb: str, name: str, where: str) -> errors.TorporError:
    code = error.errno or 0
    if verb == "read" and code in ABSENT:
        return Missing(f"{where} has no {name}.")
    what = f"Cannot {verb} {name} in {where}: {os.strerror(code)} ({errno.errorcode.get(code, code)})."
    if code in _FULL:
        return errors.NoSpace(what, remedy="Make room there and run the command again.")
    if code in _REFUSED:
        return Refused(what, remedy=_REFUSED[code])
    return errors.StorageUnavailable(what, remedy="Check the disk or the mount, then run the command again.")


def persist(action: Callable[[], T]) -> T:
    """Do it; again if a folder vanished meanwhile, because `delete` takes empty ones away at any time."""
    for _ in range(TRIES - 1):
        try:
            return action()
        except FileNotFoundError:
            continue
    return action()


def sync_folder(fd: int) -> None:
    """Make the names in an open folder durable, where the file system knows that for folders."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def make_folders(path: str) -> None:
    """Create the folder and what is missing above it, for this user alone, durably."""
    try:
        _make(path)
    except FileNotFoundError:
        above = os.path.dirname(path)
        if above == path:
            raise
        make_folders(above)
        _make(path)  # once more only: some file systems, such as /proc, say for ever that it is the folder above that is missing


def _make(path: str) -> None:
    """Create one folder, durably; one that is there already is fine."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    _let_in(path, None)
    above = os.open(os.path.dirname(path), FOLDER)
    try:
        sync_folder(above)
    finally:
        os.close(above)


def _let_in(path: str, above: int | None) -> None:
    """A umask may have kept a new folder's owner out of it, and with that every later writer to the store."""
    mode = stat.S_IMODE(os.stat(path, dir_fd=above, follow_symlinks=False).st_mode)
    if mode & 0o700 != 0o700:
        os.chmod(path, mode | 0o700, dir_fd=above)


def open_folder(above: int, name: str, *, create: bool) -> int:
    """Open the folder `name` in the open folder `above`; with `create`, make it first if need be."""
    try:
        return os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=above)
    except FileNotFoundError:
        if not create:
            raise
    try:
        os.mkdir(name, 0o700, dir_fd=above)
        _let_in(name, above)
        sync_folder(above)
    except FileExistsError:
        pass  # another writer made it first
    return os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=above)


def publish(folder: int, name: str, parts: list[memoryview], *, replace: bool, durable: bool) -> os.stat_result:
    """Make the file `name` of `parts` appear, whole. Without `replace`, a name that is taken raises `FileExistsError`."""
    return publish_of(folder, name, lambda fd: write_all(fd, parts), replace=replace, durable=durable)


def publish_of(folder: int, name: str, fill: Callable[[int], None], *, replace: bool, durable: bool) -> os.stat_result:
    """The same of what `fill` writes to the open file that it is given; nothing appears if it raises."""
    temp = TEMP + os.urandom(8).hex()
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        try:
            fill(fd)
            if durable:
                os.fsync(fd)
            done = os.fstat(fd)
            if done.st_mode & 0o600 != 0o600:  # a umask that shuts out the owner: nobody could read the object
                os.fchmod(fd, stat.S_IMODE(done.st_mode) | 0o600)
                if durable:
                    os.fsync(fd)
                done = os.fstat(fd)
        finally:
            os.close(fd)
        if replace:
            os.rename(temp, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            _link(folder, temp, name)
    except BaseException:
        remove_if_there(folder, temp)
        raise
    if durable:
        sync_folder(folder)
    return done


def _link(folder: int, temp: str, name: str) -> None:
    """Give the file `temp` the free name `name` and take the old one away."""
    try:
        os.link(temp, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        # NFS may answer its own repetition of a request with "exists"; a second name on our file shows that it was ours.
        if os.stat(temp, dir_fd=folder, follow_symlinks=False).st_nlink < 2:
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_new(folder, temp, name)
        return
    os.unlink(temp, dir_fd=folder)


def _rename_new(folder: int, temp: str, name: str) -> None:
    """Rename without replacing, for file systems that have no hard links."""
    import ctypes

    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP)) from None
    if renameat2(folder, os.fsencode(temp), folder, os.fsencode(name), ctypes.c_uint(1)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def remove_if_there(folder: int, name: str) -> bool:
    """Unlink `name`; False if it is not there."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


def stat_object(folder: int, name: str) -> os.stat_result | None:
    """The file's facts; None if the name is free or is something else than a file."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def open_object(folder: int, name: str) -> int:
    """Open a file for reading. What is no plain file counts as absent: `FileNotFoundError`."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return fd


def write_all(fd: int, parts: list[memoryview]) -> None:
    """Write the parts one after the other, however few bytes the system takes at a time. No part may be empty."""
    at = 0
    todo = list(parts)
    while at < len(todo):
        wrote = os.writev(fd, todo[at : at + BUFFERS_MAX])
        if not wrote:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        while at < len(todo) and wrote >= len(todo[at]):
            wrote -= len(todo[at])
            at += 1
        if wrote:
            todo[at] = todo[at][wrote:]


def read(fd: int, start: int, length: int | None, name: str) -> bytes:
    """A range of a file as bytes, `length` None for "to the end". Checked against the file's size before memory is taken."""
    end = check_range(name, os.fstat(fd).st_size, start, length)
    pieces: list[bytes] = []
    while start < end:
        piece = os.pread(fd, end - start, start)
        if not piece:  # it was cut off since
            check_range(name, start, start, end - start)
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_into(fd: int, start: int, out: memoryview, name: str) -> None:
    """Fill `out` from a file, from byte `start` on."""
    out = out.cast("B")
    check_range(name, os.fstat(fd).st_size, start, len(out))
    done = 0
    while done < len(out):
        got = os.preadv(fd, [out[done:]], start + done)
        if not got:  # it was cut off since
            check_range(name, start + done, start, len(out))
        done += got


def sync_file_systems(folder: int) -> None:
    """Sync the file system of an open folder, which is closed at the end, and those mounted on its subfolders."""
    try:
        devices = {os.fstat(folder).st_dev}
        sync_file_system(folder)
        with os.scandir(folder) as entries:
            below = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        for name in below:
            try:
                fd = open_folder(folder, name, create=False)
            except FileNotFoundError:
                continue  # deleted meanwhile
            try:
                device = os.fstat(fd).st_dev
                if device not in devices:
                    devices.add(device)
                    sync_file_system(fd)
            finally:
                os.close(fd)
    finally:
        os.close(folder)


def sync_file_system(fd: int) -> None:
    """Return once the whole file system of an open file or folder is on its disk."""
    import ctypes

    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except AttributeError:
        os.sync()  # not Linux: everything, which includes what was asked for
        return
    if syncfs(fd):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
