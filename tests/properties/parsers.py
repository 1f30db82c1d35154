"""The parsers of untrusted bytes, each with bytes that it must read: what test_parsers.py changes and feeds them."""

from __future__ import annotations

import os
import secrets
import struct
import tempfile
from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st

from torpor.events import Event
from torpor.format import columns, entries, envelope, index, manifest, meta, names, pack, recovery, zstd
from torpor.format.chunks import ChunkList
from torpor.format.entries import EntryBlock
from torpor.format.tree import TreeCheck
from torpor.format.version import NONE
from torpor.jobs import (
    CheckJob,
    Grant,
    HostKeys,
    Job,
    ProbeJob,
    ProbeResult,
    RestoreJob,
    RestoreKeys,
    Scope,
    SnapshotJob,
    Target,
    decode_job,
    decode_result,
    encode,
)
from torpor.remote import protocol
from torpor.workspace import journal
from torpor.workspace.record import Footer, Record, RecordPack, RecordWriter, Stats
from torpor.workspace.treecheck import CompiledCheck

REPOSITORY, LINEAGE = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"
SNAPSHOT = "20261102T030405678-0badcafe"
WRITER = f"{SNAPSHOT}/0a0b0c0d"
PACK = f"{WRITER}-0"
_PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGN, KEY = _PRIVATE.private_bytes_raw(), "0123456789abcdef"
PUBLIC = {KEY: _PRIVATE.public_key().public_bytes_raw()}
TIME = "2026-11-01T00:00:00Z"
_folder = tempfile.TemporaryDirectory(prefix="torpor-parsers-")


@dataclass
class Parser:
    """`whole`: what is cut off is never read."""

    parse: Callable[[bytes], object]
    samples: list[bytes] = field(default_factory=list)
    whole: bool = True


def with_file(data: bytes, call: Callable[[bytes], object]) -> object:
    path = os.path.join(os.fsencode(_folder.name), secrets.token_hex(8).encode())
    with open(path, "wb") as file:
        file.write(data)
    try:
        return call(path)
    finally:
        os.unlink(path)


def chunk_list() -> ChunkList:
    chunks = ChunkList()
    chunks.append(0, 0, 64, 100, 300, 1, b"a" * 32)
    chunks.append(0, 1, 164, 50, 40, 0, b"b" * 32)
    chunks.append_hole(1000)
    return chunks


def block() -> EntryBlock:
    """A tree with one of everything, over the chunks of `chunk_list`."""
    made = EntryBlock(0)
    made.add(NONE, b"work", entries.DIRECTORY, 0o755, 1, 2, 3, 0)
    row = made.add(0, b"a", entries.FILE, 0o644, 1, 2, 3, 30)
    made.content[row] = entries.Bundled(0, 10, b"c" * 32)
    made.attributes[row], made.flags[row] = entries.encode_attributes([(b"user.k", b"v")]), entries.ATTRIBUTES
    row = made.add(0, b"b", entries.FILE, 0o644, 1, 2, -3, 1040)
    made.content[row], made.extents[row] = entries.Chunked(1, array("I", [1, 2])), array("Q", [0, 40])
    made.flags[row] = entries.SPARSE
    made.add(0, b"d", entries.DIRECTORY, 0o700, 1, 2, 3, 0)
    made.content[made.add(3, b"l", entries.SYMLINK, 0o777, 1, 2, 3, 0)] = b"../a"
    made.content[made.add(0, b"h", entries.HARDLINK, 0o644, 1, 2, 3, 0)] = 1
    made.add(0, b"z", entries.ABSENT, 0, 0, 0, 0, 0)
    return made


def entry_with_counts(refs: int = 0, extents: int = 0) -> bytes:
    """One file that says it has so many references or extents, and has none."""
    flags = entries.SPARSE if extents else 0
    kind = entries.CHUNKED if refs else entries.EMPTY
    return columns.pack(
        array("I", [NONE]), *columns.join([b"x"]), array("B", [1]), array("H", [0]), array("I", [0]), array("I", [0]), array("q", [0]),
        array("Q", [1]), array("B", [flags]), array("B", [kind]), b"", b"", b"", array("I", [refs] if refs else []),
        array("B", [1] if refs else []), b"", array("I", [extents] if extents else []), b"", b"", b"", b"", b"", b"",
    )  # fmt: skip


@st.composite
def trees(draw: st.DrawFn) -> EntryBlock:
    """A few rows that are nearly a tree: each field is likely right and may be anything."""
    made = EntryBlock(0)
    made.add(NONE, b"r", entries.DIRECTORY, 0o755, 0, 0, 0, 0)
    folders = [0]
    for number in range(1, draw(st.integers(1, 9))):
        kind = draw(st.sampled_from([0, 0, 1, 1, 2, 3, 4]))
        parent = draw(st.sampled_from([*folders[-2:], folders[-1], folders[-1], *range(number + 1)]))
        made.add(parent, draw(st.sampled_from([b"%03d" % number] * 9 + [b"a", b"..", b"a/b", b"000"])), kind, 0o600, 0, 0, 0, 0)
        if kind == entries.DIRECTORY:
            folders.append(number)
        elif kind == entries.SYMLINK:
            made.content[number] = b"x"
        elif kind == entries.HARDLINK:
            made.content[number] = draw(st.integers(0, number + 1))
    if draw(st.booleans()):
        made.add(NONE, b"s", entries.FILE, 0o600, 0, 0, 0, 0)
    return made


def _tree(kind: type[TreeCheck], data: bytes) -> None:
    check = kind(chunk_list(), [(b"work", True)])
    check.block(entries.decode(0, len(block()), data))
    check.end()


def _head() -> bytes:
    packs = [index.Pack(PACK, 1000, b"x" * 32, b"y" * 32, 2, b"z" * 32), index.Pack(f"{WRITER}-17", 65, b"x" * 32, b"y" * 32)]
    rows = [(index.CHUNKS, 3, 200, 300), (index.ENTRIES, 7, 90, 800), (index.PROBLEMS, 1, 60, 70), (index.META, 1, 40, 30)]
    return index.encode_head([index.Section(*row) for row in rows], packs)


def _pack() -> bytes:
    rows = [pack.Row(64, 100, 300, 1, b"a" * 32), pack.Row(164, 50, 40, 0, b"b" * 32)]
    header, table = pack.encode_ends(REPOSITORY, PACK, bytes(32), 2, b"s" * 32, rows)
    return header + bytes(150) + table


def _open_pack(data: bytes) -> None:
    pack.open_table(data, pack.parse_header(data, PACK), REPOSITORY, PACK, bytes(32))


def _record() -> bytes:
    path = os.path.join(os.fsencode(_folder.name), b"record")
    writer = RecordWriter(path)
    made = block()
    raw = made.encode()
    stats = Stats(*(array(code, bytes(len(made) * width)) for code, width in (("Q", 8), ("Q", 8), ("q", 8), ("B", 1))))
    writer.block(len(made), len(raw), zstd.compress(raw), stats)
    footer = Footer(
        lineage=LINEAGE, ticket=b"t" * 32, snapshot=SNAPSHOT, rental=LINEAGE, roots=[b"/work"], packs=[RecordPack(PACK, 9, b"", b"", 0)]
    )
    writer.finish(footer, chunk_list(), b"\1\1\1")
    with open(path, "rb") as file:
        return file.read()


def _read_record(path: bytes) -> None:
    record = Record(path)
    try:
        assert len(record.chunks) == len(record.trusted)
        for found, stats in record.blocks():
            assert len(found) == len(stats.ctime)
    finally:
        record.close()


def _journal() -> bytes:
    path = os.path.join(os.fsencode(_folder.name), b"journal")
    with suppress(FileNotFoundError):
        os.unlink(path)
    made = journal.Journal(path, journal.Head(SNAPSHOT, WRITER, LINEAGE, b"t" * 32, REPOSITORY, b"k" * 80))
    row = pack.ROW.pack(64, 100, 300, 1, b"a" * 32)
    made.pack(journal.JournalPack(PACK, 1000, b"x" * 32, b"y" * 32, row, journal.SLICE.pack(0, 0, 9, b"i" * 32)))
    made.close()
    with open(path, "rb") as file:
        return file.read()


def _read_journal(path: bytes) -> None:
    found = journal.read(path)
    for item in found[1] if found else ():
        rows = item.table()
        assert all(number < len(rows) for number, _, _, _ in item.files())


_REF = manifest.IndexRef(names.index(SNAPSHOT, "0a0b0c0d"), 5000, "0" * 64, 500, "1" * 64)
MANIFEST = manifest.Manifest(
    snapshot=SNAPSHOT, lineage=LINEAGE, created=TIME, index=_REF, keyring={WRITER: b"k" * 80}, files=1, directories=1, links=1, entries=3,
    raw_bytes=10, stored_bytes=9, new_bytes=9, packs=1, chunks=1, codecs={"zstd": manifest.CodecUse(1, 2, 3)}, private=b"sealed",
)  # fmt: skip
_PROOF = manifest.HostProof(True, LINEAGE, manifest.FinalCheck(TIME, 0, []))
SIGNED: dict[str, msgspec.Struct] = {
    "receipt": manifest.Receipt(
        snapshot=SNAPSHOT, manifest_sha256="0" * 64, time=TIME, depth="full", packs=1, pack_bytes=2, read_packs="all", files=3, host=_PROOF
    ),
    "claim": manifest.Claim(
        snapshot=SNAPSHOT, lineage=LINEAGE, parents=[manifest.Parent(SNAPSHOT, _REF.name, 9, "0" * 64)], created=TIME, expires=TIME
    ),
    "mark": manifest.Mark(time=TIME, objects=["packs/" + PACK], bytes=5),
    "removal": manifest.Removal(snapshot=SNAPSHOT, manifest_sha256="", time=TIME),
    "config": manifest.Config(
        repository=REPOSITORY, encryption="none", created=TIME, keys=[manifest.PublicKey(KEY, PUBLIC[KEY], PUBLIC[KEY], TIME)]
    ),
}
_SCOPE = Scope(roots=[b"/work", b"/\xff"], excludes=["*.tmp"])
JOBS: list[Job] = [
    SnapshotJob(
        repository=REPOSITORY, snapshot=SNAPSHOT, attempt="0a0b0c0d", lineage=LINEAGE, keys=HostKeys(b"i" * 32, b"b" * 32), scope=_SCOPE,
        state=b"/state", grant=Grant(), allowed={PACK: 9}, verified=[PACK], continues=[SNAPSHOT],
    ),
    RestoreJob(
        repository=REPOSITORY, snapshot=SNAPSHOT, lineage=LINEAGE, writer=WRITER, index=_REF,
        keys=RestoreKeys(b"i" * 32, b"x" * 32, {PACK: b"p" * 32}), targets=[Target(0, b"/t\xfe")], state=b"/state", grant=Grant(),
    ),
    CheckJob(snapshot=SNAPSHOT, repository=REPOSITORY, scope=_SCOPE, state=b"/state", id_key=b"i" * 32),
    ProbeJob(repository=REPOSITORY, scope=_SCOPE, state=b"/state"),
]  # fmt: skip
_META = meta.Meta(SNAPSHOT, [meta.Root(b"work", b"/work"), meta.Root(b"f", b"/etc/f", "file")], {"1": "me"}, {}, ["x"])
_LINES = [
    protocol.Line(torpor="0.1.0", protocol=1),
    protocol.Line(event=Event(kind="progress", at=1.0, stage="read", done=5)),
    protocol.Line(result=msgspec.Raw(b'{"type":"probe"}')),
    protocol.Line(failure={"error": "Damaged", "what": "x"}),
]


def _manifest(data: bytes) -> None:
    manifest.check_manifest(manifest.decode(data, manifest.Manifest, "x"), SNAPSHOT)


def _zstd(data: bytes) -> None:
    zstd.decompress(data, 3000)


PARSERS: dict[str, Parser] = {
    "index head": Parser(lambda data: index.parse_head(data, "x"), [_head()]),
    "entries": Parser(lambda data: entries.decode(0, len(block()), data), [block().encode()]),
    "tree": Parser(partial(_tree, TreeCheck), [block().encode()]),
    "tree, compiled": Parser(partial(_tree, CompiledCheck), [block().encode()]),
    "attributes": Parser(entries.decode_attributes, [entries.encode_attributes([(b"user.a", b"1"), (b"user.b", b"")])], whole=False),
    "chunks": Parser(lambda data: ChunkList().extend(3, data, 1), [chunk_list().sections()[0][1]]),
    "pack header": Parser(lambda data: pack.parse_header(data, PACK), [_pack()[:64]]),
    "pack": Parser(_open_pack, [_pack()]),
    "zstd": Parser(_zstd, [zstd.compress(bytes(range(250)) * 12), zstd.compress(bytes(3000), 19)]),
    "signed": Parser(
        lambda data: envelope.unwrap("manifest", REPOSITORY, data, PUBLIC, "x"),
        [envelope.wrap("manifest", REPOSITORY, manifest.encode(MANIFEST), KEY, SIGN)],
    ),
    "envelope": Parser(lambda data: envelope.split(data, "x"), [envelope.wrap("mark", REPOSITORY, b"{}", KEY, SIGN)]),
    "manifest": Parser(_manifest, [manifest.encode(MANIFEST)]),
    **{name: Parser(partial(manifest.decode, kind=type(value), what="x"), [manifest.encode(value)]) for name, value in SIGNED.items()},
    "wrapped keys": Parser(
        lambda data: manifest.decode(data, manifest.WrappedKeys, "x"),
        [manifest.encode(manifest.WrappedKeys(key=KEY, repository=REPOSITORY, salt=b"s" * 32, wrapped=b"w"))],
    ),
    "meta": Parser(lambda data: meta.decode_meta(data, SNAPSHOT), [meta.encode(_META)]),
    "problems": Parser(meta.decode_problems, [meta.encode([meta.Problem(b"/x", "torn"), meta.Problem(b"/y", "mount", "z")])]),
    "recovery key": Parser(lambda data: recovery.decode(data.decode("latin-1")), [recovery.encode(bytes(range(20))).encode()]),
    "job": Parser(decode_job, [encode(job) for job in JOBS]),
    "result": Parser(decode_result, [encode(ProbeResult(rental=LINEAGE, lineage=LINEAGE, snapshot=SNAPSHOT, continues=[SNAPSHOT]))]),
    "line": Parser(protocol.parse, [msgspec.json.encode(line) for line in _LINES]),
    "record": Parser(lambda data: with_file(data, _read_record), [_record()]),
    "journal": Parser(lambda data: with_file(data, _read_journal), [_journal()], whole=False),
}


def _footer(text: bytes) -> Any:
    """A record whose footer is this text."""
    data = b"torporRC\1\0" + text + struct.pack("<I", len(text)) + b"torporRC"
    return with_file(data, _read_record)


JSON: dict[str, Callable[[bytes], object]] = {
    "manifest": _manifest,
    "meta": PARSERS["meta"].parse,
    "problems": meta.decode_problems,
    "receipt": lambda text: manifest.decode(text, manifest.Receipt, "x"),
    "job": decode_job,
    "result": decode_result,
    "footer": _footer,
}
