"""Every parser of bytes that a stranger may have written: it makes something of them or refuses them by a typed error.
What the encoders write comes back as it was."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import parsers
from tests.properties.parsers import PARSERS
from torpor.errors import Damaged, HostFailed, Malformed, TorporError, UnknownVersion, UsageError
from torpor.format import crypto, entries, envelope, index, manifest, meta, names, pack, recovery
from torpor.format.chunks import ChunkList
from torpor.format.entries import EntryBlock
from torpor.format.tree import TreeCheck
from torpor.format.version import CHUNK_MAX, NONE
from torpor.jobs import Job, decode_job, encode
from torpor.remote import protocol
from torpor.workspace.record import Record

EXTREMES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
often = settings(max_examples=150, deadline=None, database=None)
rarely = settings(max_examples=50, deadline=None, database=None)


@st.composite
def mutated(draw: st.DrawFn, samples: list[bytes]) -> bytes:
    """A valid sample with a few places changed: bits, whole integers, pieces cut out, repeated or put in."""
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.integers(0, 4))
        if how == 0 and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == 1:
            width = draw(st.sampled_from([1, 2, 4, 8]))
            data[at : at + width] = (draw(st.sampled_from(EXTREMES)) & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        elif how == 2:
            del data[at : at + draw(st.integers(1, 64))]
        elif how == 3:
            data[at:at] = draw(st.binary(max_size=16))
        else:
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
    return bytes(data)


def refuses_or_reads(parse: Callable[[bytes], object], data: bytes) -> None:
    with suppress(TorporError):
        parse(data)


@pytest.mark.parametrize("name", PARSERS)
@often
@given(data=st.data())
def test_any_bytes(name: str, data: st.DataObject) -> None:
    refuses_or_reads(PARSERS[name].parse, data.draw(st.binary(max_size=400)))


@pytest.mark.parametrize("name", PARSERS)
@often
@given(data=st.data())
def test_changed_bytes(name: str, data: st.DataObject) -> None:
    parser = PARSERS[name]
    refuses_or_reads(parser.parse, data.draw(mutated(parser.samples)))


@pytest.mark.parametrize("name", PARSERS)
def test_samples_are_read_and_cut_ones_never_are(name: str) -> None:
    parser = PARSERS[name]
    for sample in parser.samples:
        parser.parse(sample)
        for length in {0, 1, len(sample) // 2, len(sample) - 1} if parser.whole else ():
            with pytest.raises(TorporError):
                parser.parse(sample[:length])


@pytest.mark.parametrize("kind", ["manifest", "meta", "problems", "receipt", "job", "result", "footer"])
@pytest.mark.parametrize("text", [b'{"x":' + b"[" * 200_000, b"[" * 200_000, b'{"snapshot":"\xff"}', b'["\xff"]', b'{"format":1e999}'])
def test_json_that_is_none(kind: str, text: bytes) -> None:
    """Nesting deeper than the stack, bytes that are no UTF-8, numbers that are none."""
    with pytest.raises(TorporError):
        parsers.JSON[kind](text)


@pytest.mark.parametrize(
    "text", [b'{"x":' + b"[" * 200_000, b'{"failure":{"x":' + b"[" * 200_000, b'{"torpor":"\xff"}', b"Welcome!\n", b""]
)
def test_lines_that_no_engine_says(text: bytes) -> None:
    with pytest.raises(HostFailed):
        protocol.parse(text)


# Round trips.

u32 = st.integers(0, 0xFFFFFFFF)
ids = st.binary(min_size=32, max_size=32)
file_names = st.binary(min_size=1, max_size=40)
attribute = st.tuples(st.binary(min_size=1, max_size=20).map(lambda b: b"user." + b.replace(b"\0", b"x")), st.binary(max_size=50))


@st.composite
def blocks(draw: st.DrawFn) -> EntryBlock:
    """Rows as the format can write them; they need not make a tree."""
    block = EntryBlock(draw(u32))
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.integers(0, 4))
        row = block.add(
            draw(u32), draw(file_names), kind, draw(st.integers(0, 0xFFFF)), draw(u32), draw(u32),
            draw(st.integers(-(1 << 63), (1 << 63) - 1)), draw(st.integers(0, (1 << 64) - 1)),
        )  # fmt: skip
        if kind == entries.FILE:
            refs = st.lists(u32, max_size=5).map(lambda values: array("I", values))
            chunked = st.builds(entries.Chunked, st.integers(0, 255), refs)
            block.content[row] = draw(st.none() | st.builds(entries.Bundled, u32, u32, ids) | chunked)
            if draw(st.booleans()):
                block.flags[row] |= entries.SPARSE
                pairs = draw(st.lists(st.tuples(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1)), max_size=4))
                block.extents[row] = array("Q", [value for pair in pairs for value in pair])
        elif kind == entries.SYMLINK:
            block.content[row] = draw(st.binary(max_size=60))
        elif kind == entries.HARDLINK:
            block.content[row] = draw(u32)
        if draw(st.booleans()):
            block.flags[row] |= entries.ATTRIBUTES
            block.attributes[row] = entries.encode_attributes(draw(st.lists(attribute, max_size=3)))
    return block


@often
@given(blocks())
def test_entries_come_back(block: EntryBlock) -> None:
    again = entries.decode(block.base, len(block), block.encode())
    assert {name: getattr(again, name) for name in EntryBlock.__slots__} == {name: getattr(block, name) for name in EntryBlock.__slots__}
    assert again.encode() == block.encode()


@often
@given(st.lists(attribute, max_size=5))
def test_attributes_come_back(pairs: list[tuple[bytes, bytes]]) -> None:
    assert entries.decode_attributes(entries.encode_attributes(pairs)) == pairs


@often
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 65_534), st.integers(1, CHUNK_MAX), st.integers(0, 254), ids), max_size=20))
def test_chunk_lists_come_back(rows: list[tuple[int, int, int, int, bytes]]) -> None:
    chunks = ChunkList()
    for number, (packed, chunk, raw, codec, id) in enumerate(rows):
        if number % 3 == 2:
            chunks.append_hole(raw)
        else:
            chunks.append(packed, chunk, 64 + number * 100, 100, raw, codec, id)
    again = ChunkList()
    for count, data in chunks.sections():
        again.extend(count, data, 3)
    assert {name: getattr(again, name) for name in ChunkList.__slots__} == {name: getattr(chunks, name) for name in ChunkList.__slots__}


@often
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(64, 300), st.integers(17, 80), st.integers(0, 3)), max_size=8))
def test_rows_that_pass_share_no_byte(rows: list[tuple[int, int, int, int]]) -> None:
    chunks = ChunkList()
    for number, offset, sealed, chunk in rows:
        chunks.append(number, chunk, offset, sealed, 9, 0, bytes(32))
    sizes = [200, 300, 400]
    distinct = set(rows)
    taken = [(number, at) for number, offset, sealed, _ in distinct for at in range(offset, offset + sealed)]
    sound = len(taken) == len(set(taken)) and all(offset + sealed <= sizes[number] for number, offset, sealed, _ in rows)
    if sound:
        chunks.check_places(sizes)
    else:
        with pytest.raises(Malformed):
            chunks.check_places(sizes)


@often
@given(st.data())
def test_a_tree_that_passes_is_a_tree(data: st.DataObject) -> None:
    """Whatever `TreeCheck` lets through has sane names, one entry a path, and leads only to what came before."""
    block = data.draw(parsers.trees())
    check = TreeCheck(ChunkList(), [(b"r", True), (b"s", False)])
    try:
        check.block(block)
        assert check.end() == len(block)
    except Malformed:
        return
    paths: list[tuple[bytes, ...]] = []
    for row in range(len(block)):
        parent, name = block.parent[row], block.names[row]
        assert name not in (b"", b".", b"..")
        assert not {b"/", b"\0"} & {bytes([byte]) for byte in name}
        assert parent == NONE or (parent < row and block.type[parent] == entries.DIRECTORY)
        paths.append((*(paths[parent] if parent != NONE else ()), name))
        if block.type[row] == entries.HARDLINK:
            target = block.content[row]
            assert isinstance(target, int)
            assert target < row
            assert block.type[target] == entries.FILE
    assert paths == sorted(set(paths), key=lambda path: ((b"r", b"s").index(path[0]), path))


@rarely
@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, CHUNK_MAX), st.integers(0, 255), ids), min_size=1, max_size=20), st.randoms())
def test_pack_tables_come_back(chunks: list[tuple[int, int, int, bytes]], random: Any) -> None:
    """In any order of numbers; a table that leaves a gap or covers a byte twice is refused, however well it is sealed."""
    at, rows = pack.HEADER.size, []
    for coded, raw, codec, id in chunks:
        rows.append(pack.Row(at, coded + crypto.TAG, raw, codec, id))
        at += coded + crypto.TAG
    random.shuffle(rows)
    header, table = pack.encode_ends(parsers.REPOSITORY, parsers.PACK, bytes(32), 2, b"s" * 32, rows)
    whole = header + bytes(at - len(header)) + table
    parsed = pack.parse_header(whole, parsers.PACK)
    assert (parsed.chunks, parsed.size, parsed.salt) == (len(rows), len(whole), b"s" * 32)
    assert pack.open_table(whole, parsed, parsers.REPOSITORY, parsers.PACK, bytes(32)) == rows
    for change in ({"offset": rows[0].offset + 1}, {"sealed": rows[0].sealed + 1}, {"sealed": 16}, {"raw": 0}, {"raw": CHUNK_MAX + 1}):
        fields = {name: getattr(rows[0], name) for name in ("offset", "sealed", "raw", "codec", "id")} | change
        bent = b"".join(pack.ROW.pack(r.offset, r.sealed, r.raw, r.codec, r.id) for r in [pack.Row(**fields), *rows[1:]])
        sealed = crypto.Sealer(bytes(32)).seal(pack.TABLE_NUMBER, bent, pack.table_aad(parsers.REPOSITORY, parsers.PACK, header))
        with pytest.raises(Malformed):
            pack.open_table(whole[:at] + sealed, parsed, parsers.REPOSITORY, parsers.PACK, bytes(32))


@often
@given(st.binary(min_size=20, max_size=20))
def test_recovery_keys_come_back(key: bytes) -> None:
    text = recovery.encode(key)
    assert recovery.decode(text) == key
    assert recovery.decode(text.upper().replace("-", " ").replace("0", "O").replace("1", "l")) == key


@often
@given(st.text(max_size=60))
def test_any_text_is_no_recovery_key(text: str) -> None:
    with pytest.raises(UsageError):
        recovery.decode(text)


@rarely
@given(st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=5))
def test_root_names_are_unique_and_meta_comes_back(parts: list[bytes]) -> None:
    clean = [part.replace(b"/", b"x").replace(b"\0", b"x") for part in parts]
    paths = [b"/srv/" + (b"dots" if part in (b".", b"..") else part) for part in clean]
    roots = [meta.Root(name, path) for name, path in zip(meta.root_names(paths), paths, strict=True)]
    assert len({root.name for root in roots}) == len(roots)
    made = meta.Meta(parsers.SNAPSHOT, roots, {"0": "root"}, {}, ["*.tmp"])
    assert meta.decode_meta(meta.encode(made), parsers.SNAPSHOT) == made


@pytest.mark.parametrize("path", [b"", b"srv", b"../etc", b"/srv/../../etc", b"/..", b"/srv/./x", b"/srv//x", b"/srv/", b"/a\0b"])
def test_roots_that_lead_elsewhere_are_refused(path: bytes) -> None:
    with pytest.raises(Malformed, match="leads elsewhere"):
        meta.decode_meta(meta.encode(meta.Meta(parsers.SNAPSHOT, [meta.Root(b"x", path)])), parsers.SNAPSHOT)


def test_the_root_of_all_is_a_root() -> None:
    made = meta.Meta(parsers.SNAPSHOT, [meta.Root(b"root", b"/"), meta.Root(b"x", b"//x")])
    assert meta.decode_meta(meta.encode(made), parsers.SNAPSHOT) == made


@pytest.mark.parametrize("job", parsers.JOBS, ids=lambda job: type(job).__name__)
def test_jobs_come_back(job: Job) -> None:
    assert decode_job(encode(job)) == job


# What is signed.


@often
@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 7))
def test_every_bit_of_a_signed_object_counts(payload: bytes, at: int, bit: int) -> None:
    whole = envelope.wrap("manifest", parsers.REPOSITORY, payload, parsers.KEY, parsers.SIGN)
    assert envelope.unwrap("manifest", parsers.REPOSITORY, whole, parsers.PUBLIC, "x") == payload
    changed = bytearray(whole)
    changed[at % len(whole)] ^= 1 << bit
    with pytest.raises((Malformed, Damaged)):
        envelope.unwrap("manifest", parsers.REPOSITORY, bytes(changed), parsers.PUBLIC, "x")


@pytest.mark.parametrize("key", [b"", b"short", b"\xff" * 32, bytes(32), bytes(64)])
def test_a_public_key_that_is_none(key: bytes) -> None:
    whole = envelope.wrap("config", parsers.REPOSITORY, b"{}", parsers.KEY, parsers.SIGN)
    with pytest.raises(Damaged):
        envelope.unwrap("config", parsers.REPOSITORY, whole, {parsers.KEY: key}, "x")


@pytest.mark.parametrize("time", ["", "yesterday", "2026-13-01T00:00:00Z", "9" * 500, "\0"])
def test_times_that_are_none(time: str) -> None:
    claim = manifest.Claim(snapshot=parsers.SNAPSHOT, lineage="0" * 32, created=time, expires="2026-11-01T00:00:00Z")
    with pytest.raises(Malformed, match="where a time belongs"):
        manifest.decode(manifest.encode(claim), manifest.Claim, "x")


@pytest.mark.parametrize("version", [2, 3, 65_535])
def test_newer_formats_are_named(version: int) -> None:
    data = index.HEAD.pack(index.MAGIC, version, 0, 100, 0, 0, 0, 0)
    calls: list[Callable[[], object]] = [
        lambda: index.head_size(data, "x"),
        lambda: pack.parse_header(b"torporPK" + version.to_bytes(2, "little") + bytes(54), "x"),
        lambda: manifest.decode(b'{"format":%d}' % version, manifest.Manifest, "x"),
    ]
    for call in calls:
        with pytest.raises(UnknownVersion, match=str(version)):
            call()


# Files of the host.


def test_a_broken_record_leaves_no_open_file(tmp_path: Path) -> None:
    path = bytes(tmp_path / "record")
    Path(tmp_path / "record").write_bytes(b"torporRC" + bytes(40))
    with pytest.raises(Malformed):
        Record(path)  # an open file would be a warning, and warnings are errors here
    gc.collect()


def test_names_of_objects_are_strict() -> None:
    assert names.is_pack(parsers.PACK)
    for bad in ("", "../x", parsers.PACK + "\n", parsers.PACK.upper(), "/" + parsers.PACK, parsers.PACK.replace("-0", "-01"), "a/b-0"):
        assert not names.is_pack(bad)
        with pytest.raises(Malformed):
            names.writer_of(bad)
