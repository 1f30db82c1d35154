"""Writes regular files: small ones in one go, large ones piece by piece; never through a link, never half visible where one was before."""

from __future__ import annotations

import os
import secrets
import threading
import time
from array import array
from contextlib import suppress
from hashlib import sha256

from torpor.errors import TargetNotEmpty
from torpor.format import entries
from torpor.format.entries import EntryBlock
from torpor.format.version import NONE
from torpor.jobs import show_path
from torpor.plan.cuts import data_ranges
from torpor.wake.folders import Folders, located
from torpor.wake.metadata import Metadata
from torpor.wake.removal import Remover
from torpor.wake.survey import Survey
from torpor.workspace.record import RACY, RACY_NS

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


TEMPORARY = ".torpor-tmp-"


def temporary_name() -> bytes:
    """A name beside a file that stays in place until its successor is whole."""
    return TEMPORARY.encode() + secrets.token_hex(8).encode()


class Kept:
    """The stat columns of the new record, filled as files are finished."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self.flags = bytearray(survey.index.count)

    def note(self, number: int, fd: int) -> None:
        self.seen(number, os.fstat(fd))

    def seen(self, number: int, status: os.stat_result) -> None:
        """Remember a finished file. It is racy only if its own mtime is about now: any later write moves the mtime there."""
        survey = self._survey
        survey.device[number], survey.inode[number], survey.ctime[number] = status.st_dev, status.st_ino, status.st_ctime_ns
        self.flags[number] = RACY if abs(status.st_mtime_ns - time.time_ns()) < RACY_NS else 0

    @property
    def columns(self) -> tuple[array[int], array[int], array[int], bytearray]:
        """Device, inode, ctime and flags of every entry, to be filled by others."""
        return self._survey.device, self._survey.inode, self._survey.ctime, self.flags


def write_all(fd: int, data: memoryview, offset: int) -> None:
    while data:
        done = os.pwrite(fd, data, offset)
        data, offset = data[done:], offset + done


class Files:
    """Creates files of one restore. `fresh`: the targets were empty, so nothing can be there yet."""

    def __init__(self, metadata: Metadata, kept: Kept, fresh: bool, replace: bool, remover: Remover) -> None:
        self._metadata = metadata
        self._kept = kept
        self.fresh = fresh
        self._replace = replace
        self._remover = remover

    def create(self, handle: int, name: bytes, mode: int, root: bool = False) -> tuple[int, bytes | None]:
        """Open a new file for writing; the second value is its temporary name if something stands at `name`.

        A root that is a file always has one: nothing beside it tells that its restore did not end.
        """
        if root:
            temporary = TEMPORARY.encode() + sha256(name).hexdigest()[:16].encode()  # the same in the next try, which clears it
            if os.path.lexists(os.path.join(b"/proc/self/fd/%d" % handle, temporary)):
                os.unlink(temporary, dir_fd=handle)
            return os.open(temporary, _CREATE, mode & 0o777, dir_fd=handle), temporary
        try:
            return os.open(name, _CREATE, mode & 0o777, dir_fd=handle), None
        except FileExistsError:
            if self.fresh:
                raise TargetNotEmpty(
                    f"{show_path(name)} appeared in the target while it was being restored.",
                    safe="It was left alone.",
                    remedy="Restore into a new folder, or use --merge.",
                ) from None
        temporary = temporary_name()
        return os.open(temporary, _CREATE, mode & 0o777, dir_fd=handle), temporary

    def settle(self, handle: int, name: bytes, temporary: bytes | None) -> None:
        """Move a finished file to its name, over what was there."""
        if temporary is None:
            return
        try:
            os.rename(temporary, name, src_dir_fd=handle, dst_dir_fd=handle)
        except IsADirectoryError:
            if not self._replace:
                os.unlink(temporary, dir_fd=handle)
                raise folder_in_the_way(name) from None
            try:
                self._remover.clear(handle, name)
            except TargetNotEmpty:
                os.unlink(temporary, dir_fd=handle)
                raise
            os.rename(temporary, name, src_dir_fd=handle, dst_dir_fd=handle)
        except OSError:  # what is there is not to be moved
            with suppress(OSError):
                os.unlink(temporary, dir_fd=handle)
            raise

    def small(self, folders: Folders, block: EntryBlock, row: int, data: memoryview | None) -> None:
        """Write a whole file: content, then metadata."""
        number = block.base + row
        handle, name = folders.place(block.parent[row], block.names[row], number)
        try:
            fd, temporary = self.create(handle, name, self._metadata.mode(block, row), block.parent[row] == NONE)
        except OSError as error:
            raise located(error, handle, name) from error
        try:
            if data:
                extents = block.extents.get(row)
                if extents is None:
                    write_all(fd, data, 0)
                else:
                    os.ftruncate(fd, block.size[row])
                    for start, length in data_ranges(0, len(data), extents):
                        write_all(fd, data[start : start + length], start)
            elif block.flags[row] & entries.SPARSE:
                os.ftruncate(fd, block.size[row])
            self._metadata.created(fd, block, row)
            self.settle(handle, name, temporary)
            self._kept.note(number, fd)
        except OSError as error:
            raise located(error, handle, name) from error
        finally:
            os.close(fd)


class LargeFile:
    """One large file that is written by several threads. `left`: pieces that are still to come."""

    def __init__(self, files: Files, metadata: Metadata, kept: Kept, block: EntryBlock, row: int, left: int, in_place: bool) -> None:
        self._files = files
        self._metadata = metadata
        self._kept = kept
        self._block = block
        self._row = row
        self._lock = threading.Lock()
        self._fd = -1
        self._temporary: bytes | None = None
        self._in_place = in_place
        self.left = left
        self._extents: array[int] | None = block.extents.get(row)

    def open(self, folders: Folders) -> None:
        """Create the file at its full size, or open the one to be mended."""
        block, row = self._block, self._row
        with self._lock:
            if self._fd >= 0:
                return
            handle, name = folders.place(block.parent[row], block.names[row], block.base + row)
            try:
                if self._in_place:
                    self._fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=handle)
                else:
                    mode = self._metadata.mode(block, row)
                    self._fd, self._temporary = self._files.create(handle, name, mode, block.parent[row] == NONE)
                os.ftruncate(self._fd, block.size[row])
            except OSError as error:
                raise located(error, handle, name) from error

    def write(self, data: memoryview, offset: int) -> None:
        if self._extents is None:
            write_all(self._fd, data, offset)
            return
        for start, length in data_ranges(offset, len(data), self._extents):
            write_all(self._fd, data[start - offset : start - offset + length], start)

    def done(self, folders: Folders, pieces: int) -> bool:
        """Count pieces as written; with the last one the file gets its metadata and its name. True then."""
        with self._lock:
            self.left -= pieces
            if self.left:
                return False
        block, row = self._block, self._row
        handle, name = folders.place(block.parent[row], block.names[row], block.base + row)
        try:
            if self._in_place:
                self._metadata.apply(self._fd, block, row, os.fstat(self._fd))
            else:
                self._metadata.created(self._fd, block, row)
                self._files.settle(handle, name, self._temporary)
        except OSError as error:
            raise located(error, handle, name) from error
        self._kept.note(block.base + row, self._fd)
        self.close()
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def copy_file(first: tuple[int, bytes], new: tuple[int, bytes], metadata: Metadata, block: EntryBlock, row: int) -> None:
    """Make `new` (directory handle, name) a copy of the finished file `first`, holes too."""
    source = os.open(first[1], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=first[0])
    try:
        fd = os.open(new[1], _CREATE, 0o600, dir_fd=new[0])
        try:
            size = os.fstat(source).st_size
            os.ftruncate(fd, size)
            for start, length in data_ranges(0, size, block.extents.get(row)):
                os.lseek(fd, start, os.SEEK_SET)
                at, end = start, start + length
                while at < end and (done := os.sendfile(fd, source, at, end - at)):
                    at += done
            metadata.apply(fd, block, row, os.fstat(fd))
        finally:
            os.close(fd)
    finally:
        os.close(source)


def folder_in_the_way(name: bytes) -> TargetNotEmpty:
    return TargetNotEmpty(
        f"{show_path(name)} is a folder in the target and something else in the snapshot.",
        safe="The folder was left alone.",
        remedy="Move it away, or use --replace to make the target equal to the snapshot.",
    )
