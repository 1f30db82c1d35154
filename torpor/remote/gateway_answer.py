"""What a gateway does for one request that was found to be granted: read an object, or write one that is new."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torpor.errors import NoSpace, StorageUnavailable, TorporError
from torpor.format import names
from torpor.format.version import PACK_MAX
from torpor.remote.gateway_wire import PIECE, Connection, Ended, Head, parse_range
from torpor.storage.base import PACKS, Exists, Info, Missing, Refused
from torpor.storage.files import disk, write_all
from torpor.workspace.spool import spool

if TYPE_CHECKING:
    from collections.abc import Callable

    from torpor.storage.base import Store

OBJECT_MAX = 5 * 1024**3  # bytes of an object that is no pack: the most that one request may put at S3 too
_STATUS: dict[type[TorporError], int] = {Missing: 404, Exists: 412, NoSpace: 507, Refused: 403, StorageUnavailable: 503}


@runtime_checkable
class Files(Protocol):
    """A store whose objects are files of this computer: bytes go between them and the socket without a buffer of ours."""

    def open_file(self, name: str) -> int:
        """A descriptor to read the object from, which the caller closes. Raises `Missing`."""

    def write_file(self, name: str, fill: Callable[[int], None]) -> Info:
        """A new object of what `fill` writes to the descriptor it is given, durable on return; nothing if it raises. Raises `Exists`."""


def respond(connection: Connection, head: Head, store: Store, name: str, check: Callable[[], None]) -> None:
    """Do what was asked and answer. `check` raises `Ended` if nothing may be written any more. Raises `Ended`."""
    try:
        if head.method == "PUT":
            _put(connection, head, store, name, check)
        else:
            _get(connection, head, store, name)
    except TorporError as error:
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
        refuse(connection, status, most=PACK_MAX)


def refuse(connection: Connection, status: int, *, most: int = 0, body: bytes = b"") -> None:
    """Answer with an error that tells nothing. Of a body that is on its way, up to `most` bytes are taken, so that the answer arrives."""
    connection.pass_over(most)
    connection.answer(status, {"Allow": "GET, HEAD, PUT"} if status == 405 else None, body)


def _get(connection: Connection, head: Head, store: Store, name: str) -> None:
    if isinstance(store, Files):
        fd = store.open_file(name)
        try:
            _send(connection, head, os.fstat(fd).st_size, {}, lambda start, end: connection.send_file(fd, start, end))
        finally:
            os.close(fd)
        return
    found = store.head(name)
    if found is None:
        raise Missing(f"{store.url} has no {name}.")
    _send(connection, head, found.size, _etag(found), lambda start, end: _copy(connection, store, name, start, end))


def _send(connection: Connection, head: Head, size: int, headers: dict[str, str], body: Callable[[int, int], None]) -> None:
    connection.pass_over(PIECE)
    span = parse_range(head.headers.get("range", ""), size)
    start, end = span or (0, size)
    headers = {**headers, "Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
    if span is not None and end < start:
        connection.answer(416, {**headers, "Content-Range": f"bytes */{size}"})
        return
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    connection.answer(200 if span is None else 206, headers, length=end - start)
    if head.method == "GET":
        body(start, end)


def _copy(connection: Connection, store: Store, name: str, start: int, end: int) -> None:
    space = memoryview(bytearray(min(PIECE * 4, end - start)))
    for at in range(start, end, PIECE * 4):
        piece = space[: min(len(space), end - at)]
        try:
            store.get_into(name, at, piece)
        except TorporError as error:  # the head of a good answer has gone out
            raise Ended("the store failed") from error
        connection.send(piece)


def _put(connection: Connection, head: Head, store: Store, name: str, check: Callable[[], None]) -> None:
    if "content-length" not in head.headers:
        refuse(connection, 411)
        return
    if head.length > (PACK_MAX if names.is_pack(name.removeprefix(PACKS)) else OBJECT_MAX):
        refuse(connection, 413)
        return
    if store.head(name) is not None:
        raise Exists(f"{store.url} already has {name}.")

    def fill(fd: int) -> None:
        while piece := connection.read():
            with disk("write", name, store.url):
                write_all(fd, [piece])
        check()

    done = store.write_file(name, fill) if isinstance(store, Files) else _spooled(store, name, head.length, fill)
    connection.answer(200, _etag(done))


def _spooled(store: Store, name: str, size: int, fill: Callable[[int], None]) -> Info:
    """By way of a nameless file, so that bodies take no memory of this process while they arrive."""
    with disk("write", name, "the folder for temporary files"), spool() as file:
        fill(file.fileno())
        data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""
    done = store.put(name, data, if_absent=True)
    store.sync()
    return done


def _etag(info: Info) -> dict[str, str]:
    return {"ETag": f'"{info.digest.hex()}"'} if info.digest_kind == "md5" and info.digest else {}
