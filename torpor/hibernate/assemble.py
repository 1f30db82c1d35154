"""Builds the index and the new stat record as blocks come in, through a spool file: flat memory for any number of files."""

from __future__ import annotations

import grp
import hashlib
import mmap
import pwd
from array import array
from collections import Counter
from collections.abc import Callable

from blake3 import blake3

from torpor.errors import NotFound
from torpor.format import entries, index, meta, zstd
from torpor.format.chunks import ChunkList
from torpor.format.manifest import CodecUse, IndexRef
from torpor.format.version import NONE, SECTION_MAX
from torpor.hibernate.packer import PackList
from torpor.hibernate.window import Window
from torpor.jobs import show_path
from torpor.workspace.record import Footer, RecordPack, RecordWriter, Stats, live_bytes
from torpor.workspace.spool import spool as nameless


class Assembler:
    """Takes settled blocks in order; `finish` returns the index object's parts."""

    def __init__(
        self,
        sections: index.Sections,
        record: RecordWriter,
        chunks: ChunkList,
        spool: bytes,
    ) -> None:
        self._sections = sections
        self._record = record
        self._chunks = chunks
        self._file = nameless(spool)
        self._table: list[index.Section] = []
        self._live = array("Q")
        self.files = self.directories = self.links = self.entries = 0
        self.raw_bytes = 0

    def block(self, window: Window) -> None:
        self._count(window)
        self._rows(window.block, window.stats)

    def _rows(self, block: entries.EntryBlock, stats: Stats) -> None:
        """Long names, targets and attributes may be more than a section holds: then it becomes two."""
        raw = block.encode()
        if len(raw) > SECTION_MAX and len(block) > 1:
            half = len(block) // 2
            del raw
            self._rows(block.part(0, half), stats.part(0, half))
            self._rows(block.part(half, len(block)), stats.part(half, len(block)))
            return
        frame = zstd.compress(raw)
        self._add(index.ENTRIES, len(block), len(raw), frame)
        self._record.block(len(block), len(raw), frame, stats)

    def _add(self, kind: int, rows: int, raw: int, frame: bytes) -> None:
        section, sealed = self._sections.seal(len(self._table), kind, rows, raw, frame)
        self._table.append(section)
        self._file.write(sealed)

    def _count(self, window: Window) -> None:
        block, live = window.block, self._live
        if len(live) < len(self._chunks):
            live.extend([0] * (len(self._chunks) - len(live)))
        types = block.type.tobytes()
        if entries.ABSENT in types:
            self._no_absent_root(block)
        files = types.count(entries.FILE)
        directories = types.count(entries.DIRECTORY)
        self.entries += len(block)
        self.files += files
        self.directories += directories
        self.links += len(types) - files - directories - types.count(entries.ABSENT)
        self.raw_bytes += sum(block.size)  # only files have one
        for content, size in zip(block.content, block.size, strict=True):
            if type(content) is entries.Bundled:
                live[content[0]] += size
            elif type(content) is entries.Chunked:
                for place in content.refs:
                    live[place] = self._chunks.raw[place]

    def _no_absent_root(self, block: entries.EntryBlock) -> None:
        for row, kind in enumerate(block.type):
            if kind == entries.ABSENT and block.parent[row] == NONE:
                raise NotFound(
                    f"The root {show_path(block.names[row])} can't be read.",
                    safe="No snapshot was made.",
                    remedy="Name a file that exists and that this user may read.",
                )

    def finish(self, about: meta.Meta, problems: list[meta.Problem], packs: list[index.Pack]) -> bytes:
        """Add the remaining sections; the head is returned."""
        for rows, raw in self._chunks.sections():
            self._add(index.CHUNKS, rows, len(raw), zstd.compress(raw))
        if problems:
            told = those_that_fit(problems)
            data = meta.encode(told)
            self._add(index.PROBLEMS, len(told), len(data), zstd.compress(data))
        data = meta.encode(about)
        self._add(index.META, 1, len(data), zstd.compress(data))
        self._file.flush()
        return index.encode_head(self._table, packs)

    def put(self, name: str, head: bytes, put: Callable[[str, list[memoryview], bytes], object]) -> IndexRef:
        """Send the object; what the manifest must say of it is returned."""
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as body:
            view = memoryview(body)
            sha, whole = hashlib.sha256(head), blake3(head)
            sha.update(view)
            whole.update(view)
            put(name, [memoryview(head), view], whole.digest())
            size = len(head) + len(view)
            view.release()
        return IndexRef(name, size, sha.hexdigest(), len(head), hashlib.sha256(head).hexdigest())

    def keep_record(self, footer: Footer, packs: PackList, trusted: bytes) -> None:
        """Put the stat record in place, with how much of each pack is live."""
        live = live_bytes(self._chunks, self._live, len(packs.packs))
        footer.packs = [
            RecordPack(pack.name, pack.size, pack.blake3, pack.salt, live[number]) for number, pack in enumerate(packs.complete())
        ]
        footer.raw_bytes = self.raw_bytes
        self._record.finish(footer, self._chunks, trusted)

    def close(self) -> None:
        self._record.abandon()
        self._file.close()


def those_that_fit(problems: list[meta.Problem]) -> list[meta.Problem]:
    """As many as the format has room for; the rest, by kind, as one more of each that says how many there are."""
    room = index.JSON_MAX - 4096
    for number, problem in enumerate(problems):
        room -= 4 * len(problem.path) // 3 + 6 * len(problem.detail) + 64
        if room < 0:
            rest = Counter(left.kind for left in problems[number:])
            return problems[:number] + [meta.Problem(problem.path, kind, f"and {count} more") for kind, count in sorted(rest.items())]
    return problems


def codec_use(chunks: ChunkList, name_of: Callable[[int], str]) -> tuple[dict[str, CodecUse], int]:
    """The codec mix of all chunks that are not holes, and their sealed bytes."""
    use: dict[int, CodecUse] = {}
    total = 0
    for place in range(len(chunks)):
        if not chunks.is_hole(place):
            entry = use.setdefault(chunks.codec[place], CodecUse())
            entry.chunks += 1
            entry.raw_bytes += chunks.raw[place]
            entry.coded_bytes += chunks.sealed[place]
            total += chunks.sealed[place]
    return {name_of(codec): entry for codec, entry in sorted(use.items())}, total


def owner_names(users: set[int], groups: set[int]) -> tuple[dict[str, str], dict[str, str]]:
    """Names beside numbers, where this machine knows them."""
    found_users: dict[str, str] = {}
    found_groups: dict[str, str] = {}
    for uid in sorted(users):
        try:
            found_users[str(uid)] = pwd.getpwuid(uid).pw_name
        except KeyError:
            continue
    for gid in sorted(groups):
        try:
            found_groups[str(gid)] = grp.getgrgid(gid).gr_name
        except KeyError:
            continue
    return found_users, found_groups
