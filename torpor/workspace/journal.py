"""The journal of a snapshot being made: every pack that reached the store, so that a killed snapshot goes on, not over.

The data key is in it only as sealed to the repository; the control side opens it and puts it into the keyring. Frames of msgpack, each
behind its length; a torn last frame is dropped.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from torpor.errors import Malformed
from torpor.format import names
from torpor.format.pack import ROW, Row
from torpor.format.untrusted import BROKEN

_LENGTH = struct.Struct("<I")
SLICE = struct.Struct("<HII32s")  # chunk number, offset, length, id of a small file in a bundle


class Head(msgspec.Struct, frozen=True):
    snapshot: str
    writer: str
    lineage: str
    ticket: bytes
    repository: str
    sealed_key: bytes


class JournalPack(msgspec.Struct, frozen=True):
    """One pack: `rows` are 48 bytes each (format.pack.ROW), `slices` 42 bytes each (SLICE)."""

    name: str
    size: int
    blake3: bytes
    salt: bytes
    rows: bytes
    slices: bytes

    def table(self) -> list[Row]:
        return [Row(*fields) for fields in ROW.iter_unpack(self.rows)]

    def files(self) -> Iterator[tuple[int, int, int, bytes]]:
        """(chunk number, offset, length, id) of each small file."""
        return SLICE.iter_unpack(self.slices)


class Journal:
    """Appends; one writer."""

    def __init__(self, path: bytes, head: Head) -> None:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_APPEND, 0o600)
        # Held as long as the attempt runs: whoever can take it knows that the attempt is dead.
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._append(head)

    def _append(self, what: msgspec.Struct) -> None:
        data = msgspec.msgpack.encode(what)
        os.write(self._fd, _LENGTH.pack(len(data)) + data)

    def pack(self, what: JournalPack) -> None:
        self._append(what)

    def close(self) -> None:
        os.close(self._fd)


def is_running(path: bytes) -> bool:
    """Whether the attempt that writes this journal is still alive. One that is gone counts as alive: another attempt has taken it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def remove(path: bytes) -> None:
    """Remove a journal that nobody needs any more; another attempt may have been quicker."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def _frames(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 4 <= len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += 4
        if at + length > len(data):
            return
        yield data[at : at + length]
        at += length


def _check(pack: JournalPack) -> JournalPack:
    whole = len(pack.rows) % ROW.size == 0 and len(pack.slices) % SLICE.size == 0 and len(pack.salt) == len(pack.blake3) == 32
    chunks = len(pack.rows) // ROW.size
    if not whole or not names.is_pack(pack.name) or any(n >= chunks for n, _, _, _ in pack.files()):
        raise Malformed("A line of the journal is none.")
    return pack


def read(path: bytes) -> tuple[Head, list[JournalPack]] | None:
    """Head and packs of a journal; None if not even its head is whole, or it is gone."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    head: Head | None = None
    packs: list[JournalPack] = []
    try:
        for frame in _frames(data):
            if head is None:
                head = msgspec.msgpack.decode(frame, type=Head)
            else:
                packs.append(_check(msgspec.msgpack.decode(frame, type=JournalPack)))
    except (*BROKEN, Malformed):
        return None if head is None else (head, packs)  # a frame that a crash left half written ends the journal
    return None if head is None else (head, packs)
