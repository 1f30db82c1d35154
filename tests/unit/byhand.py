"""A snapshot folder made by hand from docs/format.md, with no code of torpor or tools/unfreeze.py: the other side of its tests.

It writes what the document says and, where a test asks, what it forbids: `build(folder, change=...)` lets `change` bend the parts
before they are sealed and signed, as a hostile host could.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import lz4.block
from backports import zstd
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SNAPSHOT, OLD = "20261102T030405678-0badcafe", "20261101T000000000-00000001"
LINEAGE = "00112233445566778899aabbccddeeff"
NONE = 0xFFFFFFFF
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
MTIME = 1_750_000_000_123_456_789
RAW, ZSTD, LZ4, PLANES = range(4)


def hkdf(key: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def as_json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def seal(key: bytes, nonce: int, data: bytes, aad: bytes) -> bytes:
    return AESGCM(key).encrypt(nonce.to_bytes(12, "big"), data, aad)


@cache
def encode_planes(raw: bytes, w: int, lead: int, tail: int, stored: frozenset[int], frame: int = 131072) -> bytes:
    n = (len(raw) - lead - tail) // w
    elements = struct.unpack(f"<{n}{'H' if w == 2 else 'I'}", raw[lead : lead + n * w])
    turned = [(x << 1 | x >> (8 * w - 1)) & ((1 << 8 * w) - 1) for x in elements]
    planes = [bytes(x >> 8 * k & 255 for x in turned) for k in range(w)]
    blocks, lengths = [], []
    for k, plane in enumerate(planes):
        cut = [plane[j : j + frame] for j in range(0, n, frame)]
        coded = [plane] if k in stored else [zstd.compress(part) for part in cut]
        lengths += [] if k in stored else [len(part) for part in coded]
        blocks += coded
    out = struct.pack("<BBBBIII", 1, w, lead, tail, n, frame, 0) + bytes(0 if k in stored else 1 for k in range(w))
    out += struct.pack(f"<{len(lengths)}I", *lengths) + raw[:lead] + raw[len(raw) - tail :]
    for block in blocks:
        out += bytes(-len(out) % 16) + block
    return out


class Repository:
    def __init__(self, folder: Path, encryption: str) -> None:
        self.folder, self.encryption, self.id = folder, encryption, os.urandom(16).hex()
        self.root, self.recovery = os.urandom(32), os.urandom(20)
        self.config: dict[str, Any] = {
            "format": 1,
            "repository": self.id,
            "encryption": encryption,
            "created": "2026-11-01T00:00:00Z",
            "keys": [],
        }
        self.generate()

    def generate(self) -> None:
        """New signing and box keys, wrapped under the recovery key: the first generation, or a rotation."""
        self.sign, self.box, salt = Ed25519PrivateKey.generate(), X25519PrivateKey.generate(), os.urandom(32)
        sign, box = self.sign.public_key().public_bytes_raw(), self.box.public_key().public_bytes_raw()
        self.key = hashlib.sha256(b"torpor key v1\0" + sign + box).hexdigest()[:16]
        private = {"sign": b64(self.sign.private_bytes_raw()), "box": b64(self.box.private_bytes_raw()), "root": b64(self.root)}
        wrap = hkdf(self.recovery, b"torpor wrap v1\0" + self.id.encode() + b"\0" + salt)
        wrapped = seal(wrap, 0, as_json(private), self.id.encode() + b"\0" + self.key.encode())
        stored = {"format": 1, "key": self.key, "repository": self.id, "salt": b64(salt), "wrapped": b64(wrapped)}
        self.put(f"keys/{self.key}.json", as_json(stored))
        self.config["keys"].append({"id": self.key, "sign": b64(sign), "box": b64(box), "created": "2026-11-01T00:00:00Z"})
        self.put("config.json", self.signed("torpor config v1", self.config))

    def put(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def signed(self, context: str, payload: object) -> bytes:
        body = as_json(payload)
        signature = self.sign.sign(context.encode() + b"\0" + self.id.encode() + b"\0" + body)
        return b'{"signed":' + body + b',"key":"' + self.key.encode() + b'","signature":"' + b64(signature).encode() + b'"}\n'

    def seal(self, data: bytes, kind: str, name: str) -> str:
        if self.encryption == "none":
            return b64(data)
        suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
        return b64(suite.encrypt(data, self.box.public_key(), info=f"{kind}\0{self.id}\0{name}".encode()))

    def recovery_key(self) -> str:
        check = hashlib.sha256(b"torpor recovery v1\0" + self.recovery).digest()[:2]
        bits = int.from_bytes(self.recovery + check, "big") << 4
        text = "".join(ALPHABET[bits >> 5 * i & 31] for i in reversed(range(36)))
        return "torpor1-" + "-".join(text[i : i + 6] for i in range(0, 36, 6))


@dataclass
class Pack:
    """Chunks of one pack; they lie in the reverse order of their numbers, which the format allows."""

    repo: Repository
    name: str
    data_key: bytes
    kind: int
    salt: bytes = field(default_factory=lambda: os.urandom(32))
    chunks: list[tuple[int, bytes, int, bytes]] = field(default_factory=list)  # codec, coded, raw length, id

    def build(self) -> tuple[bytes, list[tuple[int, int, int, int, bytes]]]:
        """The object, and (offset, sealed length, raw length, codec, id) of each chunk."""
        key = hkdf(self.data_key, f"torpor pack v1\0{self.name}\0".encode() + self.salt)
        repo = bytes.fromhex(self.repo.id)
        rows, body = {}, b""
        for number, (codec, coded, raw, digest) in reversed(list(enumerate(self.chunks))):
            aad = b"torpor chunk v1\0\1\0" + repo + self.name.encode() + b"\0" + struct.pack("<IBI", number, codec, raw)
            sealed = seal(key, number, coded, aad)
            rows[number] = (64 + len(body), len(sealed), raw, codec, digest)
            body += sealed
        table = b"".join(struct.pack("<IIIB3x32s", *rows[number]) for number in sorted(rows))
        head = struct.pack("<8sHBBIIIQ", b"torporPK", 1, self.kind, 0, len(rows), 64 + len(body), len(table) + 16, 0) + self.salt
        sealed = seal(key, NONE, table, b"torpor table v1\0" + repo + self.name.encode() + b"\0" + head)
        return head + body + sealed, [rows[number] for number in sorted(rows)]


@dataclass
class Entry:
    parent: int
    name: bytes
    kind: int = 1
    mode: int = 0o644
    mtime: int = MTIME
    size: int = 0
    flags: int = 0
    bundled: tuple[int, int, bytes] | None = None  # chunk, offset, id
    refs: list[int] | None = None
    extents: list[tuple[int, int]] = field(default_factory=list)
    target: bytes = b""
    link: int = 0
    attributes: list[tuple[bytes, bytes]] = field(default_factory=list)
    cut: int = 0  # bytes to leave out at the end of the attributes


def column(code: str, values: list[Any]) -> bytes:
    return framed(struct.pack(f"<{len(values)}{code}", *values))


def framed(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def entry_section(entries: list[Entry]) -> bytes:
    bundled = [e.bundled for e in entries if e.bundled]
    chunked = [e.refs for e in entries if e.refs is not None]
    sparse = [e.extents for e in entries if e.flags & 2]
    links = [e.target for e in entries if e.kind == 2]
    coded = [(e, b"".join(struct.pack("<HI", len(k), len(v)) + k + v for k, v in e.attributes)) for e in entries if e.flags & 4]
    attributes = [data[: len(data) - e.cut] for e, data in coded]
    parts = [column("I", [e.parent for e in entries]), column("H", [len(e.name) for e in entries])]
    parts += [framed(b"".join(e.name for e in entries)), column("B", [e.kind for e in entries])]
    parts += [column("H", [e.mode for e in entries]), column("I", [1234] * len(entries)), column("I", [4321] * len(entries))]
    parts += [column("q", [e.mtime for e in entries]), column("Q", [e.size for e in entries])]
    parts += [column("B", [e.flags for e in entries])]
    parts += [column("B", [1 if e.bundled else 2 if e.refs is not None else 0 for e in entries])]
    parts += [column("I", [b[0] for b in bundled]), column("I", [b[1] for b in bundled]), framed(b"".join(b[2] for b in bundled))]
    parts += [
        column("I", [len(r) for r in chunked]),
        column("B", [1] * len(chunked)),
        column("I", [r for rs in chunked for r in rs]),
    ]
    parts += [column("I", [len(x) for x in sparse]), column("Q", [v for xs in sparse for x in xs for v in x])]
    parts += [
        column("H", [len(t) for t in links]),
        framed(b"".join(links)),
        column("I", [e.link for e in entries if e.kind == 3]),
    ]
    parts += [column("I", [len(a) for a in attributes]), framed(b"".join(attributes))]
    return b"".join(parts)


class Snapshot:
    """The parts of one snapshot, open to change until `write` seals them."""

    def __init__(self, repo: Repository) -> None:
        self.repo, self.writer, self.old_writer = repo, f"{SNAPSHOT}/0a0b0c0d", f"{OLD}/aaaaaaaa"
        self.data_key, self.old_key = os.urandom(32), os.urandom(32)
        self.id_key = hkdf(repo.root, b"torpor id v1\0" + LINEAGE.encode())
        self.packs = [
            Pack(repo, f"{self.writer}-0", self.data_key, 3),
            Pack(repo, f"{OLD}/aaaaaaaa-12", self.old_key, 3),
            Pack(repo, f"{self.writer}-1", self.data_key, 2),
        ]
        self.keyring = {self.writer: self.data_key, self.old_writer: self.old_key}
        self.chunks: list[tuple[int, int] | int] = []  # (pack, number), or the length of a hole
        self.entries: list[Entry] = []
        self.contents: dict[bytes, bytes] = {}
        self.meta: dict[str, Any] = {
            "snapshot": SNAPSHOT,
            "roots": [
                {"name": b64(b"desk"), "path": b64(b"/srv/desk"), "kind": "directory"},
                {"name": b64(b"alone"), "path": b64(b"/etc/alone"), "kind": "file"},
            ],
            "users": {},
            "groups": {},
            "excludes": [],
        }
        self.problems = [{"path": b64(b"/srv/desk/gone"), "kind": "vanished", "detail": "it was gone"}]
        self.bend_rows: Callable[[list[Any]], None] = lambda rows: None
        self.bend_index: Callable[[bytes], bytes] = lambda index: index
        self.manifest_changes: dict[str, Any] = {}

    def id(self, data: bytes) -> bytes:
        return blake3(data, key=self.id_key).digest()

    def chunk(self, pack: int, raw: bytes, codec: int, coded: bytes) -> int:
        self.packs[pack].chunks.append((codec, coded, len(raw), self.id(raw)))
        self.chunks.append((pack, len(self.packs[pack].chunks) - 1))
        return len(self.chunks) - 1

    def find(self, name: bytes) -> Entry:
        return next(e for e in self.entries if e.name == name)

    def sample(self) -> None:
        """One of everything: see `contents` for the files' bytes."""
        rng = random.Random(7)
        a, b, alone = b"first " * 50, b"second " * 40, b"a root that is a file\n"
        bundle = a + b + alone
        floats2 = b"L" + rng.randbytes(6000) + b"T"
        floats4 = rng.randbytes(3) + rng.randbytes(4) * 140_000 + rng.randbytes(2)
        noise, text, old = rng.randbytes(70_000), b"lz4 " * 5000, b"from an older snapshot " * 300
        block = bytes(30_000) + b"island" * 1000 + bytes(30_000)
        c_bundle = self.chunk(2, bundle, ZSTD, zstd.compress(bundle))
        c_two = self.chunk(0, floats2, PLANES, encode_planes(floats2, 2, 1, 1, frozenset({0})))
        c_four = self.chunk(0, floats4, PLANES, encode_planes(floats4, 4, 3, 2, frozenset({2})))
        c_noise = self.chunk(0, noise, RAW, noise)
        c_lz4 = self.chunk(0, text, LZ4, lz4.block.compress(text, store_size=False))
        self.chunks.append(1 << 20)
        c_hole = len(self.chunks) - 1
        c_old = self.chunk(1, old, ZSTD, zstd.compress(old))
        c_block = self.chunk(0, block, ZSTD, zstd.compress(block))
        self.contents = {
            b"desk/a": a,
            b"desk/b": b,
            b"desk/dir/four": floats4,
            b"desk/dir/mixed": noise + bytes(1 << 20) + text + noise,
            b"desk/dir/two": floats2,
            b"desk/empty": b"",
            b"desk/hard": a,
            b"desk/old": old,
            b"desk/sparse": block + bytes(1 << 20) + block,
            b"desk/\xff\xfe": b,
            b"alone": alone,
        }
        far = len(block) + (1 << 20)
        extents = [(30_000, 6000), (far + 29_000, 8000)]
        self.entries = [
            Entry(NONE, b"desk", 0, 0o750),
            Entry(
                0,
                b"a",
                size=len(a),
                bundled=(c_bundle, 0, self.id(a)),
                flags=4,
                attributes=[(b"user.k", b"v\0w"), (b"user.l", b"")],
            ),
            Entry(0, b"b", mode=0o6755, size=len(b), bundled=(c_bundle, len(a), self.id(b)), flags=1),
            Entry(0, b"dir", 0, 0o555, mtime=-1),
            Entry(3, b"four", size=len(floats4), refs=[c_four]),
            Entry(3, b"mixed", size=2 * len(noise) + len(text) + (1 << 20), refs=[c_noise, c_hole, c_lz4, c_noise]),
            Entry(3, b"two", mode=0o400, size=len(floats2), refs=[c_two]),
            Entry(0, b"empty", mode=0o600),
            Entry(0, b"gone", 4),
            Entry(0, b"hard", 3, link=1),
            Entry(0, b"link", 2, 0o777, target=b"/etc/\xffpasswd"),
            Entry(0, b"old", size=len(old), refs=[c_old]),
            Entry(0, b"sparse", size=far + len(block), flags=2, refs=[c_block, c_hole, c_block], extents=extents),
            Entry(0, b"\xff\xfe", size=len(b), bundled=(c_bundle, len(a), self.id(b))),
            Entry(NONE, b"alone", size=len(alone), bundled=(c_bundle, len(a) + len(b), self.id(alone))),
        ]

    def index(self, packs: list[tuple[bytes, list[Any]]]) -> tuple[bytes, int]:
        """The index and the length of its head."""
        rows: list[Any] = []
        for chunk in self.chunks:
            if isinstance(chunk, int):
                rows.append([NONE, 0, 0, 0, chunk, 0, bytes(32)])
            else:
                rows.append([*chunk, *packs[chunk[0]][1][chunk[1]]])
        self.bend_rows(rows)
        chunks = b"".join(column(code, [row[i] for row in rows]) for i, code in enumerate("IIIIIB"))
        chunks += framed(b"".join(row[6] for row in rows))
        half = len(self.entries) // 2
        sections = [
            (2, len(rows), chunks),
            (3, half, entry_section(self.entries[:half])),
            (4, len(self.problems), as_json(self.problems)),
            (3, len(self.entries) - half, entry_section(self.entries[half:])),
            (1, 1, as_json(self.meta)),
        ]
        names = b"".join(p.name.encode() for p in self.packs)
        packlist = struct.pack(f"<{len(packs)}H", *(len(p.name) for p in self.packs)) + names
        packlist += struct.pack(f"<{len(packs)}Q", *(len(data) for data, _ in packs))
        packlist += b"".join(blake3(data).digest() for data, _ in packs) + b"".join(p.salt for p in self.packs)
        packlist += bytes(33 * len(packs))
        head_size = offset = 32 + 24 * len(sections) + len(packlist)
        head = struct.pack("<8sHHIIIII", b"torporIX", 1, 0, head_size, len(sections), len(packs), len(names), 0)
        key, body = hkdf(self.data_key, f"torpor index v1\0{self.writer}".encode()), b""
        for number, (kind, count, raw) in enumerate(sections):
            aad = b"torpor section v1\0" + bytes.fromhex(self.repo.id) + self.writer.encode() + b"\0"
            sealed = seal(key, number, zstd.compress(raw), aad + struct.pack("<IBII", number, kind, count, len(raw)))
            head += struct.pack("<B3xIIIQ", kind, count, len(sealed), len(raw), offset + len(body))
            body += sealed
        return head + packlist + body, head_size

    def write(self) -> None:
        packs = [pack.build() for pack in self.packs]
        for pack, (data, _) in zip(self.packs, packs, strict=True):
            self.repo.put(f"packs/{pack.name}", data)
        index, head_size = self.index(packs)
        index = self.bend_index(index)
        name = self.writer.replace("/", "/index-")
        self.repo.put(f"packs/{name}", index)
        private: dict[str, Any] = {"name": "blue fox", "machine": "vast 12", "rental": "", "roots": ["/srv/desk"], "labels": {}}
        digests = {"sha256": hashlib.sha256(index).hexdigest(), "head_sha256": hashlib.sha256(index[:head_size]).hexdigest()}
        files = [e for e in self.entries if e.kind == 1]
        self.manifest = {
            "format": 1,
            "snapshot": SNAPSHOT,
            "lineage": LINEAGE,
            "parent": None,
            "generation": 1,
            "created": "2026-11-02T03:04:05.678Z",
            "index": {"name": name, "size": len(index), "head_size": head_size, **digests},
            "keyring": {w: self.repo.seal(key, "torpor datakey v1", w) for w, key in self.keyring.items()},
            "files": len(files),
            "directories": sum(e.kind == 0 for e in self.entries),
            "links": sum(e.kind in (2, 3) for e in self.entries),
            "entries": len(self.entries),
            "raw_bytes": sum(e.size for e in files),
            "stored_bytes": 1,
            "new_bytes": 1,
            "packs": len(packs),
            "chunks": len(self.chunks),
            "codecs": {},
            "problems": {"unreadable": 0, "vanished": 1, "torn": 1, "special": 0},
            "stages": {},
            "seconds": 1.5,
            "versions": {},
            "private": self.repo.seal(as_json(private), "torpor private v1", SNAPSHOT),
            **self.manifest_changes,
        }
        self.repo.put(f"snapshots/{SNAPSHOT}.json", self.repo.signed("torpor manifest v1", self.manifest))


def build(folder: Path, encryption: str = "hpke-aes256gcm", change: Callable[[Snapshot], None] = lambda snap: None) -> Snapshot:
    snap = Snapshot(Repository(folder, encryption))
    snap.sample()
    change(snap)
    snap.write()
    return snap
