"""A folder as a store: an object is a file, its name the path below the folder. The folder alone may be reached through links."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from torpor.errors import UsageError
from torpor.storage import files
from torpor.storage.base import PACKS, Capabilities, Exists, Info, Store, check_name, check_prefix, is_name, parts_of
from torpor.storage.files import disk
from torpor.storage.urls import file_path, file_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torpor.access import Access
    from torpor.clock import Clock
    from torpor.jobs import Grant
    from torpor.storage.base import Data

_CAPABILITIES = Capabilities(conditional_put=True, digest="none", presign=False, prefix_grants=True, consistent_list=True, provider="local")
_STALE = 24 * 3600


class LocalStore(Store):
    """The store in the folder `path`, which the first `put` creates. `clock` dates what `clean` finds; None: the system's."""

    def __init__(self, path: str, clock: Clock | None = None) -> None:
        self._root = os.path.abspath(path)
        self._clock = clock
        if os.path.lexists(self._root) and not os.path.isdir(self._root):
            raise UsageError(f"{self._root!a} is not a folder.", remedy="Give a folder, or a path where one can be made.")

    @classmethod
    def from_url(cls, url: str, access: Access) -> LocalStore:
        del access  # a folder needs none
        return cls(file_path(url))

    @property
    def url(self) -> str:
        return file_url(self._root)

    @property
    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    def put(self, name: str, data: Data, *, if_absent: bool = False) -> Info:
        check_name(name)
        parts = parts_of(data)
        *above, last = name.split("/")
        durable = not name.startswith(PACKS)

        def write() -> Info:
            folder = self._folder(above, create=True)
            try:
                done = files.publish(folder, last, parts, replace=not if_absent, durable=durable)
            finally:
                os.close(folder)
            return Info(name, done.st_size, done.st_mtime)

        with disk("write", name, self.url):
            try:
                return files.persist(write)
            except FileExistsError:
                raise Exists(f"{self.url} already has {name}.") from None

    def open_file(self, name: str) -> int:
        """A descriptor to read the object from; the caller closes it. Raises `Missing`."""
        check_name(name)
        with disk("read", name, self.url):
            return self._open(name)

    def write_file(self, name: str, fill: Callable[[int], None]) -> Info:
        """Put a new object of what `fill` writes to the descriptor that it is given: durable on return, wherever it lies; nothing if
        `fill` raises. Errors as `put` with `if_absent`."""
        check_name(name)
        *above, last = name.split("/")
        begun = False

        def once(fd: int) -> None:
            nonlocal begun
            begun = True
            fill(fd)

        def write() -> Info:
            if begun:  # what `fill` has read to write it can't be read again
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            folder = self._folder(above, create=True)
            try:
                done = files.publish_of(folder, last, once, replace=False, durable=True)
            finally:
                os.close(folder)
            return Info(name, done.st_size, done.st_mtime)

        with disk("write", name, self.url):
            try:
                return files.persist(write)
            except FileExistsError:
                raise Exists(f"{self.url} already has {name}.") from None

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        check_name(name)
        with disk("read", name, self.url):
            fd = self._open(name)
            try:
                return files.read(fd, start, length, name)
            finally:
                os.close(fd)

    def get_into(self, name: str, start: int, out: memoryview) -> None:
        check_name(name)
        with disk("read", name, self.url):
            fd = self._open(name)
            try:
                files.read_into(fd, start, out, name)
            finally:
                os.close(fd)

    def head(self, name: str) -> Info | None:
        check_name(name)
        *above, last = name.split("/")
        with disk("list", name, self.url):
            folder = self._folder_if_there(above)
            if folder is None:
                return None
            try:
                found = files.stat_object(folder, last)
            finally:
                os.close(folder)
        return None if found is None else Info(name, found.st_size, found.st_mtime)

    def list(self, prefix: str = "") -> Iterator[Info]:
        check_prefix(prefix)
        return self._list(prefix)

    def _list(self, prefix: str) -> Iterator[Info]:
        with disk("list", prefix or "all objects", self.url):
            folder = self._folder_if_there(prefix.split("/")[:-1])
            if folder is None:
                return
            yield from _walk(folder, prefix[: prefix.rfind("/") + 1], prefix)

    def delete(self, names: Iterable[str]) -> int:
        count = 0
        touched: set[tuple[str, ...]] = set()
        try:
            for name in names:
                check_name(name)
                *above, last = name.split("/")
                with disk("delete", name, self.url):
                    if self._unlink(above, last):
                        touched.add(tuple(above))
                count += 1
        finally:
            for above_of in sorted(touched, key=len, reverse=True):
                with disk("delete", "/".join(above_of), self.url):
                    self._settle(above_of)
        return count

    def sync(self) -> None:
        with disk("sync", "all objects", self.url):
            folder = self._folder_if_there([])
            if folder is None:
                return  # nothing was ever written
            files.sync_file_systems(folder)

    def grant_put(self, prefix: str, expires: float, names: Sequence[str] = ()) -> Grant:
        from torpor.storage.grants import put_by_prefix

        return put_by_prefix(self.url, prefix, expires)

    def grant_get(self, names: Iterable[str], expires: float) -> Grant:
        from torpor.storage.grants import get_by_name

        return get_by_name(self.url, names, expires)

    def clean(self) -> int:
        from torpor.clock import SYSTEM

        before = (self._clock or SYSTEM).now() - _STALE
        with disk("delete", "left-over pieces", self.url):
            folder = self._folder_if_there([])
            return 0 if folder is None else _clean(folder, before)

    def _folder(self, parts: Sequence[str], *, create: bool = False) -> int:
        """Open the folder that many steps below the root, without following a link inside; the caller closes it."""
        if create and not os.path.isdir(self._root):
            files.make_folders(self._root)
        fd = os.open(self._root, files.FOLDER)
        for part in parts:
            try:
                below = files.open_folder(fd, part, create=create)
            finally:
                os.close(fd)
            fd = below
        return fd

    def _folder_if_there(self, parts: Sequence[str]) -> int | None:
        try:
            return self._folder(parts)
        except OSError as error:
            if error.errno not in files.ABSENT:
                raise
            return None

    def _open(self, name: str) -> int:
        *above, last = name.split("/")
        folder = self._folder(above)
        try:
            return files.open_object(folder, last)
        finally:
            os.close(folder)

    def _unlink(self, above: Sequence[str], name: str) -> bool:
        folder = self._folder_if_there(above)
        if folder is None:
            return False
        try:
            return files.stat_object(folder, name) is not None and files.remove_if_there(folder, name)
        finally:
            os.close(folder)

    def _settle(self, parts: tuple[str, ...]) -> None:
        """Remove a folder that a delete emptied, and those above it, but none of the first level; then make it durable."""
        while len(parts) > 1:
            above = self._folder_if_there(parts[:-1])
            if above is None:
                return  # another delete was quicker
            try:
                os.rmdir(parts[-1], dir_fd=above)
            except OSError:
                break  # not empty, or busy: it may well stay
            finally:
                os.close(above)
            parts = parts[:-1]
        if parts[:1] == (PACKS[:-1],):
            return
        folder = self._folder_if_there(parts)
        if folder is None:
            return
        try:
            files.sync_folder(folder)
        finally:
            os.close(folder)


def _walk(folder: int, base: str, prefix: str) -> Iterator[Info]:
    """Objects under the open folder `base` (closed at the end), ascending by full name: `a-b` comes before `a/b`."""
    try:
        found: list[tuple[str, os.stat_result | None]] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                name = base + entry.name
                if not is_name(name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if (name + "/").startswith(prefix):
                        found.append((name + "/", None))
                elif name.startswith(prefix):
                    facts = files.stat_object(folder, entry.name)
                    if facts is not None:
                        found.append((name, facts))
        found.sort(key=lambda pair: pair[0])
        for name, facts in found:
            if facts is not None:
                yield Info(name, facts.st_size, facts.st_mtime)
                continue
            try:
                below = files.open_folder(folder, name[len(base) : -1], create=False)
            except FileNotFoundError:
                continue  # deleted meanwhile
            yield from _walk(below, name, prefix)
    finally:
        os.close(folder)


def _clean(folder: int, before: float) -> int:
    """Remove what is left of writers that died before that time, under the open folder, which is closed at the end."""
    count = 0
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_folder in found:
            if is_folder and is_name(name):
                try:
                    below = files.open_folder(folder, name, create=False)
                except FileNotFoundError:
                    continue
                count += _clean(below, before)
            elif name.startswith(files.TEMP):
                facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(facts.st_mode) and facts.st_mtime < before:
                    count += files.remove_if_there(folder, name)
    finally:
        os.close(folder)
    return count
