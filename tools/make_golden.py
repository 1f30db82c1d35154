"""Writes tests/golden/v1: small snapshots with everything in them that format 1 knows, which every later torpor must read.

    python -m tools.make_golden TARGET

It was run once. What it wrote is never written again: a new format gets a folder of its own, and this one stays.

TARGET gets two repositories, `encrypted` and `plain`, with three snapshots each: two that the engine made of real files (the second
names packs of the first), and one made by hand through the encoders, with what the engine would need large files or bad luck for.
Beside them `recovery-keys.json`, `expected.json` (what must come back) and `digests.json` (SHA-256 of every file).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import struct
import sys
import tempfile
from array import array
from contextlib import suppress
from pathlib import Path
from typing import Any

from blake3 import blake3

from torpor import __version__
from torpor.codecs.base import NO_HINT, Hint, Scratch
from torpor.codecs.table import by_name
from torpor.control import catalogue, commit, receipts, repository, snapshots
from torpor.control.repository import Repository
from torpor.events import Listener, ignore
from torpor.format import crypto, entries, index, meta, names, pack, recovery, zstd
from torpor.format.chunks import ChunkList
from torpor.format.entries import Bundled, Chunked, EntryBlock
from torpor.format.manifest import IndexRef
from torpor.format.version import NONE
from torpor.jobs import Granter, Job, ProbeJob, ProbeResult, Result, Scope, SnapshotJob, SnapshotResult
from torpor.remote.host import InProcess
from torpor.settings import load
from torpor.storage.local import LocalStore
from torpor.storage.transfer import Transfer

SECOND = 1_000_000_000
MTIME = 1_600_000_000 * SECOND + 123_456_789


class Plain(InProcess):
    """The engine, leaving out of its report what only this computer has."""

    def run(self, job: Job, listen: Listener, ask: Granter | None = None) -> Result:
        result = super().run(job, listen, ask)
        if isinstance(result, SnapshotResult):
            result.versions = {"torpor": __version__}
        return result


class ByHand:
    """A host that writes what it was filled with: two blocks of entries, chunks of every codec, a hole, an absent file."""

    def __init__(self) -> None:
        self.contents: dict[bytes, bytes] = {}

    def run(self, job: Job, listen: Listener, ask: Granter | None = None) -> Result:
        if isinstance(job, ProbeJob):
            return ProbeResult(rental="1" * 32)
        if not isinstance(job, SnapshotJob):
            raise TypeError("a snapshot and nothing else")
        self.job = job
        self.data_key = bytes(range(32))
        self.chunks = ChunkList()
        self.packed: list[tuple[int, bytes, int, bytes]] = []
        blocks = self.blocks()
        with Transfer(job.grant) as transfer:
            made = self._pack(transfer)
            ref = self._index(transfer, blocks, made)
        writer = names.writer(job.snapshot, job.attempt)
        sealed = crypto.box_seal(job.keys.box, self.data_key, crypto.data_key_info(job.repository, writer))
        return SnapshotResult(
            snapshot=job.snapshot, rental="1" * 32, index=ref, keys={writer: sealed}, files=0, directories=0, links=0, entries=0,
            raw_bytes=0, stored_bytes=0, new_bytes=0, packs=1, chunks=0, codecs={}, problems={}, problem_paths=[], stages={"read": 0.5},
            seconds=1.0, compared=True, read_files=0, read_bytes=0, versions={"torpor": __version__},
        )  # fmt: skip

    def chunk(self, raw: bytes, codec: str, hint: Hint = NO_HINT) -> int:
        """Code a chunk for the only pack; its place in the chunk list."""
        coder = by_name(codec)
        coded = coder.encode(raw, Scratch(), hint)
        if coded is None:
            raise ValueError(f"{codec} does not take this sample")
        row = (coder.id, bytes(coded), len(raw), blake3(raw, key=self.job.keys.id_key).digest())
        self.packed.append(row)
        return self.chunks.append(0, len(self.packed) - 1, 0, 0, len(raw), coder.id, row[3])

    def blocks(self) -> list[EntryBlock]:
        rng = random.Random(1)  # noqa: S311 - a sample that is the same each time
        two = b"L" + b"".join(struct.pack("<H", 0x3C00 | rng.getrandbits(3)) for _ in range(9000))
        four = b"abc" + b"".join(struct.pack("<I", 0x3F800000 | rng.getrandbits(5)) for _ in range(5000)) + b"T"
        text, noise, later = b"LZ4 likes what comes again and again. " * 200, rng.randbytes(900), b"zstd, at another level. " * 300
        head = struct.pack("<Q", 64) + b" " * 64
        small, other = b"a small file in a bundle\n", b"another one in the same\n"
        places = {
            "two": self.chunk(two, "planes", Hint(2, 1)), "four": self.chunk(four, "planes", Hint(4, 3)), "text": self.chunk(text, "lz4"),
            "noise": self.chunk(noise, "raw"), "later": self.chunk(later, "zstd", Hint(level=19)), "head": self.chunk(head, "raw"),
            "bundle": self.chunk(small + other + bytes(500), "zstd"), "hole": self.chunks.append_hole(1 << 20),
        }  # fmt: skip
        key = self.job.keys.id_key
        first, second = EntryBlock(0), EntryBlock(5)

        def file(block: EntryBlock, parent: int, name: bytes, size: int, content: entries.Content, mode: int = 0o644) -> int:
            row = block.add(parent, name, entries.FILE, mode, 1000, 1000, MTIME + len(name), size)
            block.content[row] = content
            return row

        def large(kind: int, *which: str) -> Chunked:
            return Chunked(kind, array("I", [places[name] for name in which]))

        first.add(NONE, b"hand", entries.DIRECTORY, 0o750, 1000, 1000, MTIME, 0)
        file(first, 0, b"a-planes-2", len(two), large(1, "two"))
        file(first, 0, b"b-planes-4", len(four), large(1, "four"))
        file(first, 0, b"c-mixed", len(text + noise + later + text), large(1, "text", "noise", "later", "text"))
        file(first, 0, b"d-safetensors", len(head + noise), large(2, "head", "noise"))
        row = file(second, 0, b"e-small", len(small), Bundled(places["bundle"], 0, blake3(small, key=key).digest()), 0o600)
        second.attributes[row] = entries.encode_attributes([(b"user.torpor.golden", b"\0\1\xff"), (b"user.z", b"")])
        second.flags[row] = entries.ATTRIBUTES
        row = file(second, 0, b"f-torn", len(other), Bundled(places["bundle"], len(small), blake3(other, key=key).digest()))
        second.flags[row] = entries.TORN
        second.add(0, b"g-vanished", entries.ABSENT, 0, 0, 0, 0, 0)
        row = file(second, 0, b"h-sparse", (1 << 20) + len(later), large(1, "hole", "later"))
        second.flags[row], second.extents[row] = entries.SPARSE, array("Q", [1 << 20, len(later)])
        file(second, 0, b"i-hole", 1 << 20, large(1, "hole"))
        tail = bytes(300)
        row = file(second, 0, b"j-small-hole", 300, Bundled(places["bundle"], len(small + other), blake3(tail, key=key).digest()))
        second.flags[row], second.extents[row] = entries.SPARSE, array("Q", [100, 10])
        second.content[second.add(0, b"k-hard", entries.HARDLINK, 0o600, 1000, 1000, MTIME + len(b"e-small"), 0)] = 5
        second.content[second.add(0, b"l-link", entries.SYMLINK, 0o777, 1000, 1000, MTIME, 0)] = b"../\xff/nowhere"
        self.contents = {
            b"hand/a-planes-2": two, b"hand/b-planes-4": four, b"hand/c-mixed": text + noise + later + text,
            b"hand/d-safetensors": head + noise, b"hand/e-small": small, b"hand/f-torn": other,
            b"hand/h-sparse": bytes(1 << 20) + later, b"hand/i-hole": bytes(1 << 20), b"hand/j-small-hole": tail,
        }  # fmt: skip
        return [first, second]

    def _pack(self, transfer: Transfer) -> index.Pack:
        """The chunks lie in the reverse order of their numbers, as the format allows."""
        job, salt = self.job, bytes(range(100, 132))
        name = names.pack(job.snapshot, job.attempt, 0)
        key = crypto.pack_key(self.data_key, name, salt)
        prefix, sealer = pack.chunk_aad_prefix(job.repository, name), crypto.Sealer(key)
        body, rows = b"", dict[int, pack.Row]()
        for number, (codec, coded, raw, id) in reversed(list(enumerate(self.packed))):
            sealed = sealer.seal(number, coded, pack.chunk_aad(prefix, number, codec, raw))
            rows[number] = pack.Row(pack.HEADER.size + len(body), len(sealed), raw, codec, id)
            body += sealed
        for place in range(len(self.chunks)):
            if not self.chunks.is_hole(place):
                row = rows[self.chunks.number[place]]
                self.chunks.offset[place], self.chunks.sealed[place] = row.offset, row.sealed
        header, table = pack.encode_ends(job.repository, name, key, 3, salt, [rows[number] for number in sorted(rows)])
        whole = header + body + table
        transfer.put(name, [whole], blake3(whole).digest())
        return index.Pack(name, len(whole), blake3(whole).digest(), salt, index.DIGESTS["sha256"], hashlib.sha256(whole).digest())

    def _index(self, transfer: Transfer, blocks: list[EntryBlock], made: index.Pack) -> IndexRef:
        job = self.job
        writer, name = names.writer(job.snapshot, job.attempt), names.index(job.snapshot, job.attempt)
        about = meta.Meta(job.snapshot, [meta.Root(b"hand", b"/srv/hand")], {"1000": "user"}, {"1000": "users"}, ["*.tmp"])
        problems = [meta.Problem(b"/srv/hand/f-torn", "torn"), meta.Problem(b"/srv/hand/g-vanished", "vanished", "it was gone")]
        parts = [(index.CHUNKS, rows, data) for rows, data in self.chunks.sections()]
        parts += [(index.ENTRIES, len(block), block.encode()) for block in blocks]
        parts += [(index.PROBLEMS, len(problems), meta.encode(problems)), (index.META, 1, meta.encode(about))]
        sealer = index.Sections(job.repository, writer, crypto.index_key(self.data_key, writer))
        sealed = [sealer.seal(n, kind, rows, len(raw), zstd.compress(raw)) for n, (kind, rows, raw) in enumerate(parts)]
        head = index.encode_head([section for section, _ in sealed], [made])
        whole = head + b"".join(data for _, data in sealed)
        transfer.put(name, [whole], blake3(whole).digest())
        return IndexRef(name, len(whole), hashlib.sha256(whole).hexdigest(), len(head), hashlib.sha256(head).hexdigest())


def fill(source: Path) -> None:
    """Real files, in two roots; below 100 KB when stored."""
    work = source / "work"
    (work / "empty folder").mkdir(parents=True)
    (work / "deep/er/still").mkdir(parents=True)
    (work / "a.txt").write_text("the first line\n" * 40)
    (work / "code.py").write_text("print('golden')\n")
    (work / "empty").write_bytes(b"")
    (work / "deep/er/still/x").write_bytes(b"x")
    (work / "large.txt").write_text("".join(f"{number} bottles of beer on the wall\n" for number in range(40_000)))
    for name, mode in {"a.txt": 0o640, "code.py": 0o755, "empty": 0o400}.items():
        (work / name).chmod(mode)
    for odd in (b"line\nbreak", b"\xff\xfe", "grün".encode(), b"z" * 255):
        (work / os.fsdecode(odd)).write_bytes(odd)
    os.link(work / "a.txt", work / "hard link")
    os.symlink("a.txt", work / "link")
    os.symlink("/nowhere/at/all", work / "dangling")
    with open(work / "sparse", "wb") as file:
        file.truncate(6 << 20)
        for offset in (0, 5 << 20):
            file.seek(offset)
            file.write(b"data between holes " * 300)
    for name in ("a.txt", "deep"):
        with suppress(OSError):
            os.setxattr(work / name, "user.torpor.golden", b"value of " + name.encode())
    (source / "alone").write_bytes(b"a root that is a single file\n")
    settle(source)


def settle(source: Path) -> None:
    """Times that do not depend on when this runs; one before 1970."""
    paths = [source / "alone", *sorted((source / "work").rglob("*"), reverse=True), source / "work"]
    for number, path in enumerate(paths):
        at = -1_500_000_000 if path.name == "empty" else MTIME + number
        os.utime(path, ns=(at, at), follow_symlinks=False)


def expected(repo: Repository, snapshot: str, contents: dict[bytes, bytes]) -> dict[str, Any]:
    """What must come back of a snapshot: an entry each, by path (base64) from its root's name on."""
    found = catalogue.load(repo, snapshot).manifest
    with commit.fetch_index(repo, found.index) as spool:
        opened = commit.open_index(repo, spool, found.index, commit.data_keys(repo, found.keyring), snapshot)
        roots = {root.name: root.path for root in opened.meta.roots}
        paths: list[bytes] = []
        rows: dict[str, dict[str, Any]] = {}
        for block in opened.checked_blocks():
            for row, name in enumerate(block.names):
                parent, content = block.parent[row], block.content[row]
                path = name if parent == NONE else paths[parent] + b"/" + name
                paths.append(path)
                kind = ("directory", "file", "symlink", "hardlink", "absent")[block.type[row]]
                facts: dict[str, Any] = {"type": kind, "mode": block.mode[row], "mtime": block.mtime[row], "flags": block.flags[row]}
                if kind == "file":
                    facts |= {"size": block.size[row], "sha256": hashlib.sha256(contents.pop(path)).hexdigest()}
                elif kind == "symlink":
                    facts["target"] = b64(content)
                elif kind == "hardlink":
                    facts["link"] = b64(paths[content])  # type: ignore[index]
                if row in block.attributes:
                    facts["attributes"] = {b64(k): b64(v) for k, v in entries.decode_attributes(block.attributes[row])}
                rows[b64(path)] = facts
        problems = sorted(f"{problem.kind} {b64(problem.path)}" for problem in opened.problems())
    if contents:
        raise ValueError(f"files that no snapshot holds: {sorted(contents)}")
    return {"roots": {b64(name): b64(path) for name, path in roots.items()}, "entries": rows, "problems": problems}


def b64(data: object) -> str:
    if not isinstance(data, bytes):
        raise TypeError("bytes and nothing else")
    return base64.b64encode(data).decode()


def read(source: Path) -> dict[bytes, bytes]:
    """Contents by path, of files that are no second name of another."""
    out: dict[bytes, bytes] = {}
    for path in [source / "alone", *sorted((source / "work").rglob("*"))]:
        if path.is_file() and not path.is_symlink() and path.name != "hard link":
            out[os.fsencode(path.relative_to(source))] = path.read_bytes()
    return out


def make(target: Path, encryption: str) -> tuple[str, dict[str, Any]]:
    """One repository; its recovery key, and what is expected of each snapshot."""
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        base = Path(folder)
        store = LocalStore(str(target))
        repo = repository.open_repository(load({"TORPOR_HOME": str(base / "home")}, store.url), create=True, encryption=encryption)
        fill(base)
        scope, state = Scope(roots=[os.fsencode(base / "work"), os.fsencode(base / "alone")]), os.fsencode(base / "state")
        options = snapshots.Options(name="golden", machine="local:golden", labels={"kind": "golden"}, compare=True)
        found: dict[str, Any] = {}
        first = snapshots.take(repo, Plain(), scope, state, options, ignore).snapshot.id
        found[first] = expected(repo, first, read(base))
        (base / "work/code.py").write_text("print('golden, and changed')\n")
        (base / "work/new").write_bytes(b"new in the second\n" * 100)
        (base / "work/empty").unlink()
        settle(base)
        second = snapshots.take(repo, Plain(), scope, state, options, ignore).snapshot.id
        found[second] = expected(repo, second, read(base))
        hand = ByHand()
        third = snapshots.take(repo, hand, Scope(roots=[b"/srv/hand"]), state, options, ignore).snapshot.id
        found[third] = expected(repo, third, hand.contents)
        for snapshot in found:
            if receipts.verify(repo, snapshot, "full", ignore).damage:
                raise ValueError(f"{snapshot} is damaged")
        return recovery.encode(repo.private().recovery), found


def main(target: Path) -> None:
    if target.exists():
        sys.exit(f"{target} is there already, and golden files are written once.")
    keys, found = {}, {}
    for name, encryption in (("encrypted", repository.ENCRYPTED), ("plain", repository.PLAIN)):
        keys[name], found[name] = make(target / name, encryption)
    for name, data in (("recovery-keys.json", keys), ("expected.json", found)):
        (target / name).write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    digests = {str(path.relative_to(target)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files(target)}
    (target / "digests.json").write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n")
    size = sum(path.stat().st_size for path in files(target))
    print(f"{len(digests) + 1} files, {size} bytes")


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
