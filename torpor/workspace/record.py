"""The stat record: what this rental last saved or restored of a workspace, and where each byte of it lies in the store.

It is the host's own, never uploaded; with it the next snapshot reads only what changed. A chunk in it is *trusted* if this rental
wrote it, or restored it and checked its id (the reuse rule). Layout (private, may change: an unknown version is ignored):

    "torporRC" version:u16 | frames: kind:u8 rows:u32 raw:u32 length:u32 zstd | … | footer JSON | footer length:u32 |
    BLAKE3 of all before it | "torporRC"

Frames: E entries (format.entries), S stats of the same rows (this file), C chunks (format.chunks), T trust, one byte a chunk.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import struct
from array import array
from collections.abc import Iterator
from contextlib import suppress

import msgspec
from blake3 import blake3

from torpor.errors import Malformed
from torpor.format import columns, entries, zstd
from torpor.format.chunks import ChunkList
from torpor.format.pack import FRAME, ROW
from torpor.format.untrusted import BROKEN
from torpor.format.version import ROWS_MAX, SECTION_MAX
from torpor.workspace.scan import Status

_MAGIC = b"torporRC"
_VERSION = 3
_FRAME = struct.Struct("<cIII")
_TAIL = struct.Struct("<I32s8s")
_TEMP = b".tmp"
RACY = 1
RACY_NS = 2_000_000_000


class RecordPack(msgspec.Struct, frozen=True):
    """A pack that the record names. `live`: its bytes that the record's snapshot uses, of a pack that is all used its size."""

    name: str
    size: int
    blake3: bytes
    salt: bytes
    live: int


def live_bytes(chunks: ChunkList, used: array[int], packs: int) -> list[int]:
    """How much of each of `packs` packs is live, where files use `used` raw bytes of each chunk (of those that it has a row for)."""
    live = [FRAME] * packs
    for place in range(min(len(chunks), len(used))):
        if not chunks.is_hole(place):
            part = min(1.0, used[place] / chunks.raw[place])
            live[chunks.pack[place]] += int((chunks.sealed[place] + ROW.size) * part)
    return live


class Footer(msgspec.Struct, kw_only=True):
    """`ticket`: shows the control side that this host was given the lineage (format.crypto.ticket)."""

    lineage: str
    ticket: bytes
    snapshot: str
    rental: str
    roots: list[bytes]
    raw_bytes: int = 0
    stable_inodes: bool = True
    packs: list[RecordPack] = []
    frames: list[tuple[str, int, int]] = []  # kind, offset, rows


class Stats(msgspec.Struct):
    """Stat columns of one entry block."""

    device: array[int]
    inode: array[int]
    ctime: array[int]
    flags: array[int]

    def encode(self) -> bytes:
        return columns.pack(self.device, self.inode, self.ctime, self.flags)

    def part(self, first: int, last: int) -> Stats:
        """Of the rows from `first` to `last`."""
        return Stats(self.device[first:last], self.inode[first:last], self.ctime[first:last], self.flags[first:last])

    @classmethod
    def decode(cls, rows: int, data: bytes) -> Stats:
        reader = columns.Reader(data, "The stat record")
        stats = cls(reader.ints("Q", rows), reader.ints("Q", rows), reader.ints("q", rows), reader.ints("B", rows))
        reader.end()
        return stats


def is_racy(status: Status, looked_at: int, since: int) -> bool:
    """Whether a change after `looked_at` (ns since 1970) could leave the same times behind.

    It could right after. And if the file changed after `since`, when all was written to the disk: a program that writes through a mapping
    moves the times with the first write to a page only, until that page is written to the disk.

    A later change moves an mtime of the far future to now, as it moves one of the past; a ctime of the future means that the clock
    was set back, and nothing is told by it.
    """
    return status.st_ctime_ns > min(looked_at, since) - RACY_NS or abs(status.st_mtime_ns - looked_at) < RACY_NS


def _remove_stale(folder: bytes) -> None:
    """Remove what writers that were killed have left: those that live hold a lock."""
    for name in os.listdir(folder):
        if not name.endswith(_TEMP):
            continue
        path = os.path.join(folder, name)
        with suppress(OSError), open(path, "rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)


class RecordWriter:
    """Writes a record beside its final place; `finish` puts it there in one step."""

    def __init__(self, path: bytes) -> None:
        self._path = path
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        _remove_stale(os.path.dirname(path))
        while True:
            self._temp = path + b".%d-%s%s" % (os.getpid(), secrets.token_hex(4).encode(), _TEMP)
            self._file = open(self._temp, "wb")  # noqa: SIM115 - closed by finish or abandon
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX)
            if os.fstat(self._file.fileno()).st_nlink:
                break
            self._file.close()  # somebody took it for a dead one's before it was locked
        self._digest = blake3()
        self._frames: list[tuple[str, int, int]] = []
        self._write(_MAGIC + struct.pack("<H", _VERSION))

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)

    def frame(self, kind: str, rows: int, raw: int, data: bytes) -> None:
        """Append a frame whose bytes are already compressed."""
        self._frames.append((kind, self._file.tell(), rows))
        self._write(_FRAME.pack(kind.encode(), rows, raw, len(data)))
        self._write(data)

    def block(self, rows: int, raw: int, frame: bytes, stats: Stats) -> None:
        self.frame("E", rows, raw, frame)
        data = stats.encode()
        self.frame("S", rows, len(data), zstd.compress(data))

    def finish(self, footer: Footer, chunks: ChunkList, trusted: bytes) -> None:
        at = 0
        for rows, data in chunks.sections():
            self.frame("C", rows, len(data), zstd.compress(data))
            trust = trusted[at : at + rows]
            self.frame("T", rows, rows, zstd.compress(trust))
            at += rows
        footer.frames = self._frames
        encoded = msgspec.json.encode(footer)
        self._write(encoded + struct.pack("<I", len(encoded)))
        self._file.write(self._digest.digest() + _MAGIC)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.rename(self._temp, self._path)

    def abandon(self) -> None:
        if not self._file.closed:
            self._file.close()
        if os.path.exists(self._temp):
            os.unlink(self._temp)


class Record:
    """An open record. Blocks stream; the chunk list is read at once."""

    def __init__(self, path: bytes) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close
        try:
            self.footer = self._read_footer()
        except BaseException:
            self._file.close()
            raise
        self._chunks: ChunkList | None = None
        self.trusted = b""

    def _read_footer(self) -> Footer:
        size = os.fstat(self._file.fileno()).st_size
        if size < 10 + _TAIL.size:
            raise _bad()
        head = self._at(0, 10)
        length, digest, magic = _TAIL.unpack(self._at(size - _TAIL.size, _TAIL.size))
        if head != _MAGIC + struct.pack("<H", _VERSION) or magic != _MAGIC or length > size - 10 - _TAIL.size:
            raise _bad()
        with mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_READ) as whole, memoryview(whole) as view:
            if blake3(view[: size - 40]).digest() != digest:
                raise _bad()
        self._end = size - _TAIL.size - length
        try:
            footer = msgspec.json.decode(self._at(self._end, length), type=Footer)
        except BROKEN:
            raise _bad() from None
        if not all(10 <= offset <= self._end - _FRAME.size for _, offset, _ in footer.frames):
            raise _bad()
        return footer

    def _at(self, offset: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length, offset)

    def _frame(self, offset: int) -> tuple[int, bytes]:
        _, rows, raw, length = _FRAME.unpack(self._at(offset, _FRAME.size))
        if rows > ROWS_MAX or raw > SECTION_MAX or length > self._end - offset - _FRAME.size:
            raise _bad()
        return rows, zstd.decompress(self._at(offset + _FRAME.size, length), raw)

    @property
    def chunks(self) -> ChunkList:
        if self._chunks is None:
            chunks, trust = ChunkList(), bytearray()
            for kind, offset, _ in self.footer.frames:
                if kind == "C":
                    chunks.extend(*self._frame(offset), len(self.footer.packs))
                elif kind == "T":
                    trust += self._frame(offset)[1]
            if len(trust) != len(chunks):
                raise _bad()
            self._chunks, self.trusted = chunks, bytes(trust)
        return self._chunks

    def blocks(self) -> Iterator[tuple[entries.EntryBlock, Stats]]:
        base = 0
        block: entries.EntryBlock | None = None
        for kind, offset, _ in self.footer.frames:
            if kind == "E":
                block = entries.decode(base, *self._frame(offset))
                base += len(block)
            elif kind == "S" and block is not None:
                rows, data = self._frame(offset)
                if rows != len(block):
                    raise _bad()
                yield block, Stats.decode(rows, data)

    def close(self) -> None:
        self._file.close()


def _bad() -> Malformed:
    return Malformed(
        "The stat record of this workspace is damaged.",
        safe="Nothing in the store was touched.",
        remedy="Remove the folder `records` of this host's state; the next snapshot reads every file again.",
    )


def open_record(path: bytes) -> Record | None:
    """The record at `path`; None if there is none, or none that this version reads."""
    try:
        return Record(path)
    except (FileNotFoundError, Malformed):
        return None
