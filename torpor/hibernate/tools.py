"""What every worker of a snapshot shares, and what each has of its own."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec
from blake3 import blake3

from torpor.codecs.base import Scratch
from torpor.codecs.table import by_id
from torpor.errors import Damaged
from torpor.events import Progress
from torpor.format.meta import Problem
from torpor.format.version import CHUNK_MAX
from torpor.hibernate.dedupe import Dedupe
from torpor.hibernate.packer import Packer, Slices
from torpor.jobs import show_path
from torpor.native.hashing import hash_pieces
from torpor.pages import pages
from torpor.workspace.walk import OWN, RULE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from mmap import mmap

    from torpor.codecs.choose import Chooser
    from torpor.hibernate.lane import Gpu, LaneWay


class Shared(msgspec.Struct):
    """One snapshot job's engine room."""

    id_key: bytes
    packer: Packer
    dedupe: Dedupe
    progress: Progress
    policy: str
    level: int
    compare: bool
    since: int  # ns since 1970: after that all files' bytes were written to the disk
    mapped: frozenset[tuple[int, int]]  # device and inode of files that are written to through memory
    problems: list[Problem] = msgspec.field(default_factory=list)
    read_files: int = 0
    read_bytes: int = 0
    lock: threading.Lock = msgspec.field(default_factory=threading.Lock)
    started_reading: bool = False
    opened: set[int] = msgspec.field(default_factory=set)  # descriptors of large files under way
    gpu: Gpu | None = None

    def report(self, path: bytes, kind: str, detail: str = "") -> None:
        if kind == OWN:
            self.progress.note(f"Left out: {show_path(path)}, which is torpor's own (a store, keys, or state).", "warning")
        elif kind == RULE:
            self.progress.note(f"{show_path(path)} holds lines that are no patterns; they exclude nothing: {detail}", "warning")
        else:
            self.problems.append(Problem(path, kind, detail))

    def first_byte(self) -> None:
        """Tell the listener, once, that reading has begun."""
        if not self.started_reading:
            self.started_reading = True
            self.progress.moment("first_byte")

    def count_read(self, files: int, size: int) -> None:
        with self.lock:
            self.read_files += files
            self.read_bytes += size

    def hash(self, data: memoryview | bytes) -> bytes:
        return blake3(data, key=self.id_key).digest()

    def hash_all(self, data: memoryview, offsets: Sequence[int], lengths: Sequence[int]) -> list[bytes]:
        """Of each of these pieces of `data`."""
        return hash_pieces(data, offsets, lengths, self.id_key)


class Worker:
    """One thread's buffers: raw bytes as read, and codec scratch. Made once, reused for every chunk. `way`: of a thread of the GPU."""

    def __init__(self, shared: Shared, way: LaneWay | None = None) -> None:
        self.shared = shared
        self.view = memoryview(pages(CHUNK_MAX)) if way is None else way.raw
        self.way = shared.gpu.meter if way is None and shared.gpu is not None else way
        self.scratch = Scratch()
        self._check: tuple[mmap, mmap] | None = None

    def store(
        self,
        data: memoryview,
        id: bytes,
        kind: int,
        chooser: Chooser,
        offset: int | None = None,
        slices: Slices | None = None,
    ) -> int:
        """Compress, seal and pack one chunk of raw bytes; its place in the chunk list is returned.

        `offset`: where the chunk begins in a large file; then `data` is the beginning of `view`. `slices`: of
        the files in a bundle.
        """
        shared = self.shared
        began = time.perf_counter()
        codec, hint = chooser.choose(data, offset)
        if self.way is None or offset is None:
            coded = codec.encode(data, self.scratch, hint)
        else:
            data, coded = self.way.encode(codec, data, self.scratch, hint, id)
        if coded is None or len(coded) >= len(data):
            codec, coded = by_id(0), data
        chooser.outcome(len(data), len(coded))
        if shared.compare:
            self._compare(coded, codec.id, len(data), id)
        place = shared.packer.put(kind, coded, len(data), codec.id, id, slices)
        shared.progress.stage("compress").add(len(data), time.perf_counter() - began)
        return place

    def _compare(self, coded: bytes | bytearray | memoryview, codec: int, length: int, id: bytes) -> None:
        """Decode what was encoded and compare ids: a wrong bit in memory or in a codec is found while the source is there."""
        if self._check is None:
            self._check = (pages(CHUNK_MAX), pages(CHUNK_MAX))
        out = memoryview(self._check[0])[:length]
        by_id(codec).decode(memoryview(coded), length, out, self.scratch)
        if self.shared.hash(out) != id:
            raise Damaged(
                "A chunk did not decode to what was encoded: this machine's memory or processor made an error.",
                safe="Nothing was committed and the source was not touched.",
                remedy="Run the snapshot again; if it happens again, use --codec raw and look at the machine.",
            )
