"""Readings of docs/format.md against each other: torpor's format and codecs, tools/unfreeze.py, and byhand.py.

What torpor/format encodes, unfreeze must restore; what the hand writes, torpor/format must read as unfreeze does; and what one of
the two readers refuses, the other must refuse.
"""

from __future__ import annotations

import hashlib
import os
import random
import struct
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lz4.block
import msgspec
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.unit.byhand import LINEAGE, MTIME, OLD, SNAPSHOT, Snapshot, build, encode_planes
from tests.unit.byhand_hostile import HOSTILE_ENTRIES
from tools import unfreeze
from torpor.codecs.base import Codec, Hint, Scratch
from torpor.codecs.planes import Planes
from torpor.codecs.zstd import Zstd
from torpor.errors import Malformed
from torpor.format import crypto, entries, envelope, index, manifest, meta, names, pack, recovery, zstd
from torpor.format.chunks import ChunkList
from torpor.format.entries import Bundled, Chunked, EntryBlock
from torpor.format.tree import TreeCheck
from torpor.format.version import CODEC_LZ4, CODEC_RAW, CODEC_ZSTD, NONE

WRITER, OLD_WRITER = names.writer(SNAPSHOT, "0a0b0c0d"), names.writer(OLD, "aaaaaaaa")


class Written:
    """A repository with one snapshot, all of it encoded by torpor/format."""

    def __init__(self, folder: Path, encryption: str) -> None:
        self.folder, self.repository, self.contents = folder, os.urandom(16).hex(), dict[str, bytes]()
        self.sign, self.box, self.root = Ed25519PrivateKey.generate(), X25519PrivateKey.generate(), os.urandom(32)
        sign, box = self.sign.public_key().public_bytes_raw(), self.box.public_key().public_bytes_raw()
        self.key = hashlib.sha256(b"torpor key v1\0" + sign + box).hexdigest()[:16]
        self.recovery, salt = os.urandom(20), os.urandom(32)
        wrap = crypto.derive(self.recovery, b"torpor wrap v1", self.repository.encode(), salt)
        private = manifest.PrivateKeys(self.sign.private_bytes_raw(), self.box.private_bytes_raw(), self.root)
        aad = f"{self.repository}\0{self.key}".encode()
        wrapped = crypto.Sealer(wrap).seal(0, manifest.encode(private), aad)
        stored = manifest.WrappedKeys(key=self.key, repository=self.repository, salt=salt, wrapped=wrapped)
        self.put(f"{names.KEYS}{self.key}.json", manifest.encode(stored))
        public = manifest.PublicKey(self.key, sign, box, "2026-11-01T00:00:00Z")
        config = manifest.Config(repository=self.repository, encryption=encryption, created=public.created, keys=[public])
        self.put(names.CONFIG, self.signed("config", config))
        self.box_public = None if encryption == "none" else box
        self.snapshot()

    def put(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def signed(self, context: str, what: Any) -> bytes:
        return envelope.wrap(context, self.repository, manifest.encode(what), self.key, self.sign.private_bytes_raw())

    def pack(self, name: str, data_key: bytes, kind: int, chunks: list[tuple[int, bytes, bytes]]) -> tuple[index.Pack, list[pack.Row]]:
        """A pack of (codec, raw, coded); chunks lie in the order of their numbers."""
        salt, id_key = os.urandom(32), crypto.id_key(self.root, LINEAGE)
        key = crypto.pack_key(data_key, name, salt)
        sealer, prefix, rows, body, at = crypto.Sealer(key), pack.chunk_aad_prefix(self.repository, name), [], b"", 64
        for number, (codec, raw, coded) in enumerate(chunks):
            sealed = sealer.seal(number, coded, pack.chunk_aad(prefix, number, codec, len(raw)))
            rows.append(pack.Row(at, len(sealed), len(raw), codec, blake3(raw, key=id_key).digest()))
            body += sealed
            at += len(sealed)
        header, table = pack.encode_ends(self.repository, name, key, kind, salt, rows)
        self.put(names.PACKS + name, header + body + table)
        data = header + body + table
        return index.Pack(name, len(data), blake3(data).digest(), salt, 2, hashlib.sha256(data).digest()), rows

    def snapshot(self) -> None:
        data_key, old_key, id_key = os.urandom(32), os.urandom(32), crypto.id_key(self.root, LINEAGE)
        small, noise, old = b"one" * 7 + b"two" * 9, os.urandom(200_000), b"older" * 999
        coded_lz4 = lz4.block.compress(old, store_size=False)
        own, own_rows = self.pack(f"{WRITER}-0", data_key, 2, [(CODEC_ZSTD, small, zstd.compress(small)), (CODEC_RAW, noise, noise)])
        borrowed, old_rows = self.pack(f"{OLD_WRITER}-3", old_key, 3, [(CODEC_RAW, b"x", b"x"), (CODEC_LZ4, old, coded_lz4)])
        chunks = ChunkList()
        for place, number, row in ((0, 0, own_rows[0]), (0, 1, own_rows[1]), (1, 1, old_rows[1])):
            chunks.append(place, number, row.offset, row.sealed, row.raw, row.codec, row.id)
        chunks.append_hole(1 << 16)
        blocks = self.blocks(small, noise, old, id_key)
        roots = [meta.Root(b"tree", b"/data/tree"), meta.Root(b"single", b"/data/single", "file")]
        problems = [meta.Problem(b"/data/tree/gone", "vanished")]
        parts = [(index.CHUNKS, rows, data) for rows, data in chunks.sections()]
        parts += [(index.ENTRIES, len(block), block.encode()) for block in blocks]
        parts += [(index.META, 1, meta.encode(meta.Meta(SNAPSHOT, roots))), (index.PROBLEMS, 1, meta.encode(problems))]
        sealer = index.Sections(self.repository, WRITER, crypto.index_key(data_key, WRITER))
        sealed = [sealer.seal(i, kind, rows, len(raw), zstd.compress(raw)) for i, (kind, rows, raw) in enumerate(parts)]
        head = index.encode_head([section for section, _ in sealed], [own, borrowed])
        whole = head + b"".join(data for _, data in sealed)
        name = names.index(SNAPSHOT, "0a0b0c0d")
        self.put(names.PACKS + name, whole)
        digests = hashlib.sha256(whole).hexdigest(), len(head), hashlib.sha256(head).hexdigest()
        keyring = {
            writer: crypto.box_seal(self.box_public, key, crypto.data_key_info(self.repository, writer))
            for writer, key in ((WRITER, data_key), (OLD_WRITER, old_key))
        }
        check = TreeCheck(chunks, [(b"tree", True), (b"single", False)])
        for block in blocks:
            check.block(block)
        private = manifest.encode(manifest.Private("night", "h100", "", ["/data/tree"]))
        self.manifest = manifest.Manifest(
            snapshot=SNAPSHOT,
            lineage=LINEAGE,
            created="2026-11-02T03:04:05.678Z",
            index=manifest.IndexRef(name, len(whole), *digests),
            keyring=keyring,
            raw_bytes=check.raw_bytes,
            stored_bytes=1,
            new_bytes=1,
            packs=2,
            chunks=4,
            private=crypto.box_seal(self.box_public, private, crypto.private_info(self.repository, SNAPSHOT)),
            files=check.files,
            directories=check.directories,
            links=check.links,
            entries=check.end(),
        )
        self.put(names.manifest(SNAPSHOT), self.signed("manifest", self.manifest))

    def blocks(self, small: bytes, noise: bytes, old: bytes, id_key: bytes) -> list[EntryBlock]:
        """Two blocks; chunks are 0 `small`, 1 `noise`, 2 `old`, 3 a hole of 64 KiB."""
        first, second = EntryBlock(0), EntryBlock(3)
        one, two = small[:21], small[21:]
        first.add(NONE, b"tree", entries.DIRECTORY, 0o755, 7, 8, MTIME, 0)
        first.content[first.add(0, b"a", entries.FILE, 0o640, 7, 8, MTIME, len(one))] = Bundled(0, 0, blake3(one, key=id_key).digest())
        row = first.add(0, b"b", entries.FILE, 0o600, 7, 8, MTIME, 2 * len(noise) + len(old))
        first.content[row] = Chunked(entries.CHUNKER_FIXED, array("I", [1, 2, 1]))
        first.attributes[row], first.flags[row] = entries.encode_attributes([(b"user.tag", b"v")]), entries.ATTRIBUTES
        row = second.add(0, b"c", entries.FILE, 0o600, 7, 8, MTIME, len(old) + (1 << 16))
        second.content[row] = Chunked(entries.CHUNKER_FIXED, array("I", [3, 2]))
        second.extents[row], second.flags[row] = array("Q", [1 << 16, len(old)]), entries.SPARSE
        second.content[second.add(0, b"d", entries.HARDLINK, 0o640, 7, 8, MTIME, 0)] = 1
        second.content[second.add(0, b"e", entries.SYMLINK, 0o777, 7, 8, MTIME, 0)] = b"../../../etc"
        second.add(0, b"f", entries.DIRECTORY, 0o700, 7, 8, MTIME, 0)
        second.add(6, b"empty", entries.FILE, 0o644, 7, 8, MTIME, 0)
        second.add(0, b"gone", entries.ABSENT, 0, 0, 0, 0, 0)
        row = second.add(NONE, b"single", entries.FILE, 0o644, 7, 8, MTIME, len(two))
        second.content[row] = Bundled(0, 21, blake3(two, key=id_key).digest())
        self.contents = {"tree/a": one, "tree/b": noise + old + noise, "tree/c": bytes(1 << 16) + old, "tree/d": one}
        self.contents |= {"tree/f/empty": b"", "single": two}
        return [first, second]


@pytest.mark.parametrize("encryption", ["hpke-aes256gcm", "none"])
def test_unfreeze_restores_what_the_encoders_write(
    encryption: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = Written(tmp_path / "repo", encryption)
    monkeypatch.setenv("TORPOR_RECOVERY_KEY", recovery.encode(written.recovery))
    repo, target = str(tmp_path / "repo"), tmp_path / "out"
    assert unfreeze.main(["check", repo, "latest"]) == 0, capsys.readouterr().err
    assert unfreeze.main(["list", repo]) == 0
    assert '{"name": "night", "machine": "h100", "rental": "", "roots": ["/data/tree"], "labels": {}}' in capsys.readouterr().out
    assert unfreeze.main(["extract", repo, "latest", str(target)]) in (0, 3)  # 3 where there are no user attributes
    found = {str(p.relative_to(target)): p.read_bytes() for p in target.rglob("*") if p.is_file() and not p.is_symlink()}
    assert found == written.contents
    assert os.readlink(target / "tree/e") == "../../../etc"
    assert (target / "tree/d").samefile(target / "tree/a")


def parse(snap: Snapshot) -> TreeCheck:
    """Everything torpor/format checks of a hand-made snapshot, in the order of a reader; its entry list, checked."""
    repo, folder = snap.repo, snap.repo.folder
    public = {repo.key: repo.sign.public_key().public_bytes_raw()}
    config = manifest.decode(
        envelope.unwrap("config", repo.id, (folder / names.CONFIG).read_bytes(), public, "config"), manifest.Config, "config"
    )
    assert config.keys[0].sign == public[repo.key]
    stored = manifest.decode((folder / f"{names.KEYS}{repo.key}.json").read_bytes(), manifest.WrappedKeys, "keys")
    wrap = crypto.derive(recovery.decode(repo.recovery_key()), b"torpor wrap v1", stored.repository.encode(), stored.salt)
    opened = crypto.Sealer(wrap).open(0, stored.wrapped, f"{stored.repository}\0{stored.key}".encode(), "keys")
    keys = msgspec.json.decode(opened, type=manifest.PrivateKeys)
    data = (folder / names.manifest(SNAPSHOT)).read_bytes()
    found = manifest.decode(envelope.unwrap("manifest", repo.id, data, public, "m"), manifest.Manifest, "manifest")
    manifest.check_manifest(found, SNAPSHOT)
    box = keys.box if repo.encryption != "none" else None
    opened_keys = {w: crypto.box_open(box, k, crypto.data_key_info(repo.id, w), "key") for w, k in found.keyring.items()}
    whole = (folder / names.PACKS / found.index.name).read_bytes()
    index.check_digest(hashlib.sha256(whole).hexdigest(), found.index.sha256, "index")
    head = index.parse_head(whole, found.index.name)
    index.check_digest(hashlib.sha256(whole[: head.size]).hexdigest(), found.index.head_sha256, "head")
    writer = names.writer_of(found.index.name)
    sections = index.Sections(repo.id, writer, crypto.index_key(opened_keys[writer], writer))

    def read(kind: int) -> list[tuple[int, bytes]]:
        chosen = [(n, head.sections[n]) for n in head.of_kind(kind)]
        return [(s.rows, sections.open(n, s, whole[s.offset : s.offset + s.sealed])) for n, s in chosen]

    chunks, base = ChunkList(), 0
    for rows, raw in read(index.CHUNKS):
        chunks.extend(rows, raw, len(head.packs))
    chunks.check_places([pack.size for pack in head.packs])
    tables = [table(snap, p.name, opened_keys[names.writer_of(p.name)]) for p in head.packs]
    for place in (i for i in range(len(chunks)) if not chunks.is_hole(i)):
        row = tables[chunks.pack[place]][chunks.number[place]]
        assert row == pack.Row(chunks.offset[place], chunks.sealed[place], chunks.raw[place], chunks.codec[place], chunks.id(place))
    description = meta.decode_meta(read(index.META)[0][1], SNAPSHOT)
    meta.decode_problems(read(index.PROBLEMS)[0][1])
    check = TreeCheck(chunks, [(root.name, root.kind == "directory") for root in description.roots])
    for rows, raw in read(index.ENTRIES):
        block = entries.decode(base, rows, raw)
        check.block(block)
        base += rows
    assert check.end() == found.entries
    return check


def table(snap: Snapshot, name: str, data_key: bytes) -> list[pack.Row]:
    data = (snap.repo.folder / names.PACKS / name).read_bytes()
    header = pack.parse_header(data, name)
    return pack.open_table(data, header, snap.repo.id, name, pack.key_of(data_key, name, data[:64]))


@pytest.mark.parametrize("encryption", ["hpke-aes256gcm", "none"])
def test_the_decoders_read_what_the_hand_writes(encryption: str, tmp_path: Path) -> None:
    snap = build(tmp_path / "repo", encryption)
    check = parse(snap)
    assert (check.files, check.directories, check.links) == (10, 2, 2)
    assert check.raw_bytes == snap.manifest["raw_bytes"]
    assert crypto.id_key(snap.repo.root, LINEAGE) == snap.id_key
    assert recovery.encode(snap.repo.recovery) == snap.repo.recovery_key()


@pytest.mark.parametrize("what", HOSTILE_ENTRIES)
def test_both_refuse_a_hostile_index(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What unfreeze says of the same rows is in test_unfreeze_hostile.py."""
    snap = build(tmp_path / "repo", change=HOSTILE_ENTRIES[what])
    with pytest.raises(Malformed):
        parse(snap)


VARIANTS: dict[str, Callable[[str], str]] = {
    "as printed": str,
    "capitals": str.upper,
    "no dashes": lambda text: text.replace("-", ""),
    "no prefix": lambda text: text.removeprefix("torpor1-"),
    "spaces and more dashes": " - ".join,
    "letters for digits": lambda text: text[:8] + text[8:].replace("0", "O").replace("1", "L"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_read_a_recovery_key(variant: str) -> None:
    for n in range(50):
        key = hashlib.sha256(struct.pack("<I", n)).digest()[:20]
        text = VARIANTS[variant](recovery.encode(key))
        assert recovery.decode(text) == unfreeze.parse_recovery_key(text) == key


def floats(width: int, lead: int, tail: int, elements: int) -> bytes:
    """Bytes with few exponents and much noise, not aligned to the elements."""
    rng = random.Random(width + elements)
    top = bytes(rng.choice(b"\x3d\x3e\xbe\xbf") for _ in range(elements))
    body = bytearray(rng.randbytes(elements * width))
    body[width - 1 :: width] = top
    return rng.randbytes(lead) + bytes(body) + rng.randbytes(tail)


@pytest.mark.parametrize(("codec", "decode"), [(Zstd(), unfreeze.unzstd), (Planes(), unfreeze.unplanes)], ids=["zstd", "planes"])
@pytest.mark.parametrize(("width", "lead", "tail", "elements"), [(2, 0, 0, 3000), (2, 1, 1, 300_000), (4, 3, 2, 200_000)])
def test_unfreeze_decodes_what_the_codecs_write(
    codec: Codec, decode: Callable[[bytes, int], bytes], width: int, lead: int, tail: int, elements: int
) -> None:
    raw = floats(width, lead, tail, elements)
    raw = raw if isinstance(codec, Planes) else raw[:500] * (len(raw) // 500)
    coded = codec.encode(raw, Scratch(), Hint(width=width, lead=lead))
    assert coded is not None
    assert decode(bytes(coded), len(raw)) == raw


def planes_of(coded: bytes, size: int) -> tuple[bytes | None, bytes | None]:
    """What unfreeze and the codec make of these bytes; None: refused."""
    out = bytearray(size)
    try:
        Planes().decode(coded, size, memoryview(out), Scratch())
        found: bytes | None = bytes(out)
    except Malformed:
        found = None
    try:
        return unfreeze.unplanes(coded, size), found
    except (ValueError, struct.error, unfreeze.zstd.ZstdError):
        return None, found


@pytest.mark.parametrize(("width", "stored"), [(2, {0}), (2, set()), (4, {0, 2}), (4, {0, 1, 2, 3})])
def test_both_decode_and_refuse_the_same_planes(width: int, stored: set[int]) -> None:
    raw = floats(width, width - 1, 1, 140_000 if width == 2 else 500)
    coded = encode_planes(raw, width, width - 1, 1, frozenset(stored))
    assert planes_of(coded, len(raw)) == (raw, raw)
    rng = random.Random(len(coded))
    for _ in range(150):
        at = rng.choice([rng.randrange(60), rng.randrange(len(coded))])
        bent = rng.choice([coded[:at], coded[:at] + rng.randbytes(1) + coded[at + 1 :], coded[:at] + b"\0" + coded[at:]])
        mine, theirs = planes_of(bent, len(raw))
        assert mine == theirs, at
    assert planes_of(coded, len(raw) + width) == (None, None)
