"""`file:` requests: packs in a folder that this host has mounted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torpor.clock import SYSTEM
from torpor.storage import files
from torpor.storage.base import Exists, parts_of
from torpor.storage.files import disk
from torpor.storage.options import DEFAULT, Counters
from torpor.storage.pool import FilePool
from torpor.storage.transfer import PutInfo, check_expiry
from torpor.storage.urls import file_path, file_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Buffer

    from torpor.storage.grants import Call
    from torpor.storage.options import Options

_PIECE = 1 << 20


class FileTransport:
    """Keeps the folders and packs it used last open, so that a range costs one system call."""

    def __init__(self, options: Options = DEFAULT) -> None:
        self._pool = FilePool(options.connections)

    def counters(self) -> Counters:
        return Counters()

    def put(self, call: Call, parts: Sequence[Buffer], blake3: bytes) -> PutInfo:
        check_expiry(call, SYSTEM.now())
        folder, name = os.path.split(file_path(call.url))
        views = parts_of(parts)

        def write() -> int:
            try:
                with self._pool.using(folder, lambda: _make_and_open(folder)) as fd:
                    return files.publish(fd, name, views, replace=False, durable=False).st_size
            except FileNotFoundError:
                self._pool.forget(folder)  # it was removed, and perhaps made again, since it was opened
                raise

        with disk("write", call.name, file_url(folder)):
            try:
                return PutInfo(call.name, files.persist(write))
            except FileExistsError:
                size = sum(len(view) for view in views)
                if not self._is_there(folder, name, size, blake3):
                    raise Exists(f"{file_url(folder)} already has {call.name}.") from None
                return PutInfo(call.name, size)

    def get(self, call: Call, start: int, length: int | None) -> bytes:
        check_expiry(call, SYSTEM.now())
        path = file_path(call.url)
        with disk("read", call.name, file_url(os.path.dirname(path))), self._pool.using(path, lambda: _open(path)) as fd:
            return files.read(fd, start, length, call.name)

    def get_into(self, call: Call, start: int, out: memoryview) -> None:
        check_expiry(call, SYSTEM.now())
        path = file_path(call.url)
        with disk("read", call.name, file_url(os.path.dirname(path))), self._pool.using(path, lambda: _open(path)) as fd:
            files.read_into(fd, start, out, call.name)

    def sync(self, calls: Iterable[Call]) -> None:
        """One `syncfs` for each file system that the objects' folders lie on."""
        done: set[int] = set()
        for folder in {os.path.dirname(file_path(call.url)) for call in calls}:
            with disk("sync", "packs", file_url(folder)):
                fd = os.open(folder, files.FOLDER)
                try:
                    device = os.fstat(fd).st_dev
                    if device not in done:
                        files.sync_file_system(fd)
                        done.add(device)
                finally:
                    os.close(fd)

    def close(self) -> None:
        self._pool.close()

    def _is_there(self, folder: str, name: str, size: int, digest: bytes) -> bool:
        """Whether the file there is, byte for byte, the one that was to be written."""
        from blake3 import blake3

        with self._pool.using(folder, lambda: _make_and_open(folder)) as above:
            found = files.stat_object(above, name)
            if found is None or found.st_size != size:
                return False
            fd = files.open_object(above, name)
        try:
            seen = blake3()
            for start in range(0, size, _PIECE):
                seen.update(files.read(fd, start, min(_PIECE, size - start), name))
            return bool(seen.digest() == digest)
        finally:
            os.close(fd)


def _make_and_open(folder: str) -> int:
    if not os.path.isdir(folder):
        files.make_folders(folder)
    return os.open(folder, files.FOLDER | os.O_NOFOLLOW)


def _open(path: str) -> int:
    folder, name = os.path.split(path)
    above = os.open(folder, files.FOLDER | os.O_NOFOLLOW)
    try:
        return files.open_object(above, name)
    finally:
        os.close(above)
