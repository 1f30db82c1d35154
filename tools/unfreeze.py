#!/usr/bin/env python3
"""unfreeze: lists, checks and extracts torpor snapshots without torpor. One file, written from docs/format.md; § points into it.

Copy config.json, keys/, snapshots/ and packs/ of a repository into FOLDER with any tool; then, with Python 3.10 or later:

    pip install cryptography backports.zstd    (Python 3.14: cryptography alone, 40 or later; blake3 adds checks; few snapshots need lz4)
    python unfreeze.py list FOLDER | show FOLDER SNAPSHOT [--files] | check FOLDER SNAPSHOT
    python unfreeze.py extract FOLDER SNAPSHOT TARGET [--no-owners] [--setuid]

SNAPSHOT is an id, the unique start of one, or `latest`; TARGET must be new or empty. The recovery key (torpor1-...) is read from
--recovery-key-file, else from TORPOR_RECOVERY_KEY, else from a prompt; it is left empty where the repository is not encrypted.
Exit status: 0 done; 1 stopped, for the reason given, and the file that was being written is incomplete; 2 usage; 3 done, with warnings.
"""

import argparse
import getpass
import hashlib
import hmac
import io
import json
import os
import re
import struct
import sys
from base64 import b64decode
from collections import Counter, namedtuple
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from importlib import import_module, util
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

zstd = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
blake3: Any = import_module("blake3").blake3 if util.find_spec("blake3") else None
mac = partial(hmac.digest, digest="sha256")
TOLD, LAST = Counter[str](), ["nothing"]  # what is worth telling at the end, and how often; the object that was read last

MIB, NONE, SNAPSHOT = 1 << 20, 0xFFFFFFFF, r"[0-9]{8}T[0-9]{9}-[0-9a-f]{8}"  # NONE: the parent of a root, the pack of a hole
(DIRECTORY, FILE, SYMLINK, HARDLINK, ABSENT), (BUNDLED, CHUNKED), (SPARSE, ATTRIBUTES) = range(5), (1, 2), (2, 4)  # types, content, flags
Chunk = namedtuple("Chunk", "pack number offset sealed raw codec id")  # noqa: PYI024
Entry = namedtuple("Entry", "parent name kind mode uid gid mtime size flags content chunk offset id chunks extents target link attributes")  # noqa: PYI024


def need(condition: object, message: str) -> None:
    if not condition:
        raise ValueError(message)


class Reader(io.BytesIO):
    """Reads fields that a stranger wrote; nothing is made before the bytes for it are seen to be there (§10)."""

    def unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack("<" + layout, self.read(struct.calcsize("<" + layout)))

    def column(self, code: str, count: int) -> tuple[Any, ...]:
        need(self.unpack("I")[0] == struct.calcsize(f"<{count}{code}"), "the length of a column does not fit its rows")
        return self.unpack(f"{count}{code}")

    def some(self, code: str, which: list[bool]) -> list[int]:
        values = iter(self.column(code, sum(which)))  # a column that only some rows have; 0 for the others
        return [next(values) if has else 0 for has in which]

    def strings(self, lengths: Sequence[int]) -> list[bytes]:
        return list(map(io.BytesIO(*self.column("s", sum(lengths))).read, lengths))


def hkdf(key: bytes, info: str, salt: bytes = b"") -> bytes:
    return mac(mac(bytes(32), key), info.encode() + salt + b"\1")  # 32 bytes are one block (§4); our salts are the end of `info`


def hpke_open(box: x25519.X25519PrivateKey, sealed: bytes, info: bytes) -> bytes:
    """RFC 9180, base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, empty AAD; `sealed` is enc (32) and ciphertext."""
    kem, suite, enc = b"HPKE-v1KEM\0\x20", b"HPKE-v1HPKE\0\x20\0\1\0\2", sealed[:32]
    secret = mac(b"", kem + b"eae_prk" + box.exchange(x25519.X25519PublicKey.from_public_bytes(enc)))
    secret = mac(secret, b"\0\x20" + kem + b"shared_secret" + enc + box.public_key().public_bytes_raw() + b"\1")
    context = b"\0" + mac(b"", suite + b"psk_id_hash") + mac(b"", suite + b"info_hash" + info) + b"\1"
    secret = mac(secret, suite + b"secret")
    key, nonce = mac(secret, b"\0\x20" + suite + b"key" + context), mac(secret, b"\0\x0c" + suite + b"base_nonce" + context)
    return AESGCM(key).decrypt(nonce[:12], sealed[32:], b"")


def parse_recovery_key(text: str) -> bytes:  # §4
    crockford, base32 = "0123456789abcdefghjkmnpqrstvwxyz", "0123456789abcdefghijklmnopqrstuv"
    digits = re.sub(r"[\s-]", "", text).lower().translate(str.maketrans("oil", "011"))
    need(re.fullmatch(f"(t0rp0r1)?[{crockford}]{{36}}", digits), "the recovery key must be torpor1- and 36 letters and digits (no u)")
    data = (int(digits[-36:].translate(str.maketrans(crockford, base32)), 32) << 4).to_bytes(23, "big")
    need(data[20:] == hashlib.sha256(b"torpor recovery v1\0" + data[:20]).digest()[:2] + b"\0", "the recovery key has a typing error")
    return data[:20]


def unzstd(frame: bytes, size: int) -> bytes:
    """Exactly one frame, of exactly this content size, with a window of at most 8 MiB (§6)."""
    coder = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 23})
    data: bytes = coder.decompress(frame, max_length=size + 1)
    need(coder.eof and not coder.unused_data and zstd.get_frame_info(frame).decompressed_size == len(data) == size, "a false zstd frame")
    return data


def unplanes(coded: bytes, size: int) -> bytes:  # §6, codec 3
    r = Reader(coded)
    layout, w, lead, tail, n, frame, zero = r.unpack("BBBBIII")
    sound = (layout, zero) == (1, 0) and w in (2, 4) and max(lead, tail) < w and n > 0 and 1 << 17 <= frame <= 1 << 22
    need(sound and lead + n * w + tail == size, "planes with an impossible head")
    modes, starts, body = r.unpack(f"{w}B"), range(0, n, frame), bytearray(n * w)
    *lengths, first, last = r.unpack(f"{len(starts) * modes.count(1)}I{lead}s{tail}s")
    for k, mode in enumerate(modes):
        plane = b""
        for at in starts if mode else [0]:
            need(mode <= 1 and not any(r.read(-r.tell() % 16)), "a plane of an unknown kind, or a gap that is not zero")
            (part,) = r.unpack(f"{lengths.pop(0) if mode else n}s")
            plane += unzstd(part, min(frame, n - at)) if mode else part
        body[k::w] = plane
    need(not r.read(), "bytes after the last plane")
    ones = int.from_bytes((b"\1" + bytes(w - 1)) * (32768 // w), "little")
    for at in range(0, n * w, 32768):  # rotates each element right by one bit, many of them at once in a long integer
        low = (many := int.from_bytes(body[at : at + 32768], "little")) & ones
        body[at : at + 32768] = ((many ^ low) >> 1 | low << (8 * w - 1)).to_bytes(min(32768, n * w - at), "little")
    return b"".join((first, body, last))


class Repository:
    """A folder of objects (§2 to §4). `boxes`, `root`: private keys that the recovery key opens; `signers`: public, by key id."""

    def __init__(self, folder: str, recovery: bytes | None) -> None:
        self.folder, self.id, self.root, self.signers, self.boxes = Path(folder), "", b"", dict[str, bytes](), list[Any]()
        for path in sorted(self.folder.glob("keys/*.json")) if recovery else []:
            with suppress(InvalidTag, KeyError, TypeError, ValueError):  # of another recovery key, or garbage
                stored = json.loads(path.read_bytes())
                repository, key, version = stored["repository"], stored["key"], stored["format"]
                wrap = AESGCM(hkdf(recovery or b"", f"torpor wrap v1\0{repository}\0", b64decode(stored["salt"])))
                private = json.loads(wrap.decrypt(bytes(12), b64decode(stored["wrapped"]), f"{repository}\0{key}".encode()))
                sign = ed25519.Ed25519PrivateKey.from_private_bytes(b64decode(private["sign"])).public_key().public_bytes_raw()
                box = x25519.X25519PrivateKey.from_private_bytes(b64decode(private["box"]))
                found = hashlib.sha256(b"torpor key v1\0" + sign + box.public_key().public_bytes_raw()).hexdigest()[:16]
                need(found == key and version == 1 and self.id in ("", repository), "the private keys do not give the key id")
                self.id, self.root, self.signers[key], self.boxes = repository, b64decode(private["root"]), sign, [*self.boxes, box]
        need(self.boxes or not recovery, "the recovery key opens nothing under keys/ (is it that of this repository?)")
        TOLD["not checked: that this repository is yours; without the recovery key, config.json vouches for itself"] += not self.boxes
        believed = False  # config.json: if a key that is held signed it; where none is held, if it agrees with itself
        with suppress(InvalidSignature, KeyError, OSError, TypeError, ValueError):
            claim = json.loads(self.read("config.json")[10:-130])
            signers = {key["id"]: b64decode(key["sign"]) for key in claim["keys"]}
            self.id, self.signers = self.id or claim["repository"], self.signers or signers
            believed, self.signers = bool(self.signed("config.json", "torpor config v1")), signers
        need(believed or self.boxes, "missing, damaged or forged; the recovery key and keys/ would do without it")
        TOLD["warning: config.json is missing, damaged or forged; the recovery key and keys/ alone were used"] += not believed

    def read(self, name: str, start: int = 0, length: int = 64 * MIB) -> bytes:
        LAST[0] = name  # all bytes come through here: an error in bytes is one in these
        with open(self.folder / name, "rb") as file:
            return os.pread(file.fileno(), length, start)

    def signed(self, name: str, context: str) -> Any:
        """The payload of signed JSON, once its signature is verified."""
        frame = rb'\A\{"signed":(.*),"key":"([0-9a-f]{16})","signature":"([A-Za-z0-9+/]{85}[AQgw]==)"\}\n\Z'
        ((payload, key, signature),) = re.findall(frame, self.read(name), re.DOTALL)
        need(key.decode() in self.signers, f"it is signed by key {key.decode()}, which is none of {', '.join(self.signers)}")
        message, value = f"{context}\0{self.id}\0".encode() + payload, json.loads(payload)
        ed25519.Ed25519PublicKey.from_public_bytes(self.signers[key.decode()]).verify(b64decode(signature), message)
        need(value["format"] == 1, f"it has format version {value['format']!r}; this program reads version 1 only")
        return value

    def unbox(self, sealed: bytes, info: str, otherwise: bytes = b"") -> bytes:
        """What was sealed to the box key of any generation that is held."""
        for box in self.boxes:
            with suppress(InvalidTag, ValueError):
                return hpke_open(box, sealed, info.encode())
        need(otherwise, "the recovery key that was given does not open it" if self.boxes else "the recovery key is needed")
        return otherwise

    def manifest(self, snapshot: str) -> Any:  # §8, with its private fields open, or empty without the key to them
        manifest = self.signed(f"snapshots/{snapshot}.json", "torpor manifest v1")
        need(manifest["snapshot"] == snapshot, "it is the manifest of another snapshot")
        private = b64decode(manifest["private"])
        if any(len(key) != 44 for key in manifest["keyring"].values()):  # 44 characters are 32 bytes, a plain key; then nothing is sealed
            private = self.unbox(private, f"torpor private v1\0{self.id}\0{snapshot}", b"{}")
        return manifest | {"private": json.loads(private)}


class Snapshot:
    """An opened index (§7): packs and chunk list in memory; entries come a section at a time; the last decoded chunks are kept."""

    def __init__(self, repo: Repository, manifest: Any) -> None:
        self.repo, self.id, index, ring = repo, manifest["snapshot"], manifest["index"], manifest["keyring"].items()
        self.load, self.chunks, self.bound = lru_cache(maxsize=8)(self._load), list[Chunk](), bytes.fromhex(repo.id)
        self.id_key = hkdf(repo.root, f"torpor id v1\0{manifest['lineage']}") if blake3 and repo.root else None
        TOLD["not checked: BLAKE3 ids of chunks and small files (needs the package blake3 and the recovery key)"] += not self.id_key
        need(re.fullmatch(self.id + "/index-[0-9a-f]{8}", index["name"]), "the manifest gives its index an impossible name")
        self.name, self.writer, whole = "packs/" + index["name"], index["name"].replace("/index-", "/"), hashlib.sha256()
        for at in range(0, index["size"], MIB):
            whole.update(repo.read(self.name, at, MIB))
        need(whole.hexdigest() == index["sha256"], "it is not the index that the manifest names (SHA-256)")
        head = repo.read(self.name, 0, min(index["head_size"], 1 << 30))
        need(hashlib.sha256(head).hexdigest() == index["head_sha256"], "its head is not the one that the manifest names (SHA-256)")
        self.keys = {w: b64decode(k) if len(k) == 44 else repo.unbox(b64decode(k), f"torpor datakey v1\0{repo.id}\0{w}") for w, k in ring}
        self._read_head(Reader(head), len(head), index["size"])
        for rows, r in self.sections(2):
            self.chunks += map(Chunk, *(r.column(code, rows) for code in "IIIIIB"), r.strings([32] * rows))
        ends = dict[int, int]()  # where the chunk before ends, by pack: those of one pack share no byte
        for c in sorted(set(self.chunks), key=lambda c: (c.pack, c.offset)):
            hole = c.pack == NONE and c[1:] == (0, 0, 0, c.raw, 0, bytes(32)) and c.raw <= 1 << 30
            inside = hole or (c.sealed > 16 and ends.get(c.pack, 64) <= c.offset <= self.packs[c.pack][1] - c.sealed and c.number < 65535)
            need(inside and c.raw > 0 and (hole or c.raw <= 4 * MIB), "a chunk in the index is impossible")
            ends[c.pack] = c.offset + c.sealed
        (meta,) = (json.load(r) for _, r in self.sections(1))
        self.roots = [(b64decode(root["name"]), ("directory", "file").index(root["kind"])) for root in meta["roots"]]
        clean = all(re.fullmatch(rb"/|(/(?!\.\.?(/|\Z))[^/\0]+)+", b64decode(root["path"])) for root in meta["roots"])
        need(clean and meta["snapshot"] == self.id and 0 < len(dict(self.roots)) == len(self.roots), "it is of another snapshot or root")

    def _read_head(self, r: Reader, size: int, end: int) -> None:
        magic, version, zero, length, sections, packs, names, zeros = r.unpack("8sHHIIIII")
        need(magic == b"torporIX" and version == 1, f"it is no index, or of format version {version}; this program reads version 1 only")
        need(size == length == 32 + 24 * sections + 107 * packs + names and not zero and not zeros, "it has an impossible head")
        self.table, at = [r.unpack("B3xIIIQ") for _ in range(sections)], length
        for kind, rows, sealed, raw, offset in self.table:
            sound = raw <= 64 * MIB and 1 <= rows <= 65536 if kind in (2, 3) else raw <= 16 * MIB and (kind == 4 or (kind, rows) == (1, 1))
            need(sound and offset == at and 16 < sealed <= 65 * MIB, "it has an impossible section")
            at += sealed
        names = [r.read(length).decode("ascii") for length in r.unpack(f"{packs}H")]
        self.packs = list(zip(names, r.unpack(f"{packs}Q"), *([r.read(32) for _ in names] for _ in range(2)), strict=True))
        for name, space, _, _ in self.packs:
            sound = re.fullmatch(SNAPSHOT + r"/[0-9a-f]{8}-(0|[1-9][0-9]*)", name) and 64 < space <= 64 * MIB
            need(sound and name.rpartition("-")[0] in self.keys, f"{name!r} is no pack, or of a writer that is not in the keyring")
        need(len(set(names)) == packs and r.tell() + 33 * packs == length and at == end, "its parts do not add up")
        need(sum(rows for kind, rows, *_ in self.table if kind == 2) <= end // 32 + (1 << 20), "it has too many chunks for its size")

    def sections(self, kind: int) -> Iterator[tuple[int, Reader]]:  # rows and bytes of each section of a kind
        key = AESGCM(hkdf(self.keys[self.writer], f"torpor index v1\0{self.writer}"))
        for number, (found, rows, sealed, raw, offset) in enumerate(self.table):
            if found == kind:
                aad = b"torpor section v1\0" + self.bound + self.writer.encode() + struct.pack("<xIBII", number, kind, rows, raw)
                yield rows, Reader(unzstd(key.decrypt(number.to_bytes(12, "big"), self.repo.read(self.name, offset, sealed), aad), raw))

    def _read_entries(self, n: int, r: Reader) -> Iterator[Entry]:  # where a column is only for some, the others get 0 or nothing
        parents, names = r.column("I", n), r.strings(r.column("H", n))
        fixed = kinds, *_, flags, contents = [r.column(code, n) for code in "BHIIqQBB"]
        bundled, chunked = [content == BUNDLED for content in contents], [content == CHUNKED for content in contents]
        bundles = r.some("I", bundled), r.some("I", bundled), r.strings([32 * has for has in bundled])
        counts, _ = r.some("I", chunked), r.some("B", chunked)
        chunks = r.strings([4 * count for count in counts])
        extents = r.strings([16 * count for count in r.some("I", [flag & SPARSE > 0 for flag in flags])])
        targets, links = r.strings(r.some("H", [kind == SYMLINK for kind in kinds])), r.some("I", [kind == HARDLINK for kind in kinds])
        attributes = r.strings(r.some("I", [flag & ATTRIBUTES > 0 for flag in flags]))
        need(not r.read(), "bytes are left over")
        return map(self._check, map(Entry, parents, names, *fixed, *bundles, chunks, extents, targets, links, attributes))

    def _check(self, e: Entry) -> Entry:  # what can be checked of an entry alone; `chunks` and `attributes` get their final form
        sound = re.fullmatch(rb"(?!\.\.?\Z)[^/\0]{1,255}", e.name) and e.kind <= ABSENT and e.mode <= 0o7777 and e.flags <= 7
        sound = sound and (e.kind == FILE or not (e.content or e.flags & SPARSE)) and e.content <= CHUNKED
        need(sound and (e.kind != SYMLINK or re.fullmatch(rb"[^\0]{1,4095}", e.target)), f"entry {e.name!r} is impossible")
        chunks = [e.chunk] if e.content == BUNDLED else struct.unpack(f"<{len(e.chunks) // 4}I", e.chunks)
        held = sum(self.chunks[place].raw for place in chunks)
        fits = held == e.size if e.content != BUNDLED else self.chunks[e.chunk].pack != NONE and e.offset + e.size <= held
        edges = [-1, *(edge for offset, length in struct.iter_unpack("<QQ", e.extents) for edge in (offset, offset + length))]
        fits = fits and (e.size > 0) == (e.content > 0) and edges == sorted(set(edges)) and edges[-1] <= e.size
        need(fits, f"the content or the extents of {e.name!r} do not fit its size")
        r, attributes = Reader(e.attributes), list[tuple[bytes, bytes]]()
        while r.tell() < len(e.attributes):
            attributes.append(r.unpack("{}s{}s".format(*r.unpack("HI"))))
            need(re.fullmatch(rb"user\.[^\0]+|system\.posix_acl_(access|default)", attributes[-1][0]), f"{e.name!r}: forbidden attribute")
        return e._replace(chunks=chunks, attributes=attributes)

    def entries(self) -> Iterator[tuple[int, list[bytes], Entry]]:
        """(number, path, entry), all checked, in tree order."""
        kinds, folders, path, roots, total = bytearray(), list[int](), list[bytes](), iter(self.roots), 0  # folders: numbers of the open
        for number, e in enumerate(e for rows, r in self.sections(3) for e in self._read_entries(rows, r)):
            while folders and folders[-1] != e.parent:
                folders.pop()
            last, path = path, [*path[: len(folders)], e.name]
            need((folders and last < path) or (e.parent == NONE and next(roots, None) == (e.name, e.kind)), f"{path} is out of tree order")
            need(e.kind != HARDLINK or kinds[e.link] == FILE, f"{path} links to what is no earlier file")
            need(len(folders) + (e.kind == DIRECTORY) <= 4096 and (total := total + e.size) < 1 << 63, f"{path} is too deep or large")
            kinds.append(e.kind)
            yield number, path, e
            folders += [number] * (e.kind == DIRECTORY)
        need(not list(roots), "a root has no entry")

    def _load(self, place: int) -> bytes:  # the raw bytes of a chunk (§5, §6), once its seal and its id are checked
        pack, number, offset, length, raw, codec, digest = self.chunks[place]
        name, _, _, salt = self.packs[pack]
        key = AESGCM(hkdf(self.keys[name.rpartition("-")[0]], f"torpor pack v1\0{name}\0", salt))
        aad = b"torpor chunk v1\0\1\0" + self.bound + name.encode() + struct.pack("<xIBI", number, codec, raw)
        data = key.decrypt(number.to_bytes(12, "big"), self.repo.read(f"packs/{name}", offset, length), aad)
        data = import_module("lz4.block").decompress(data, uncompressed_size=raw) if codec == 2 else data
        data = unzstd(data, raw) if codec == 1 else unplanes(data, raw) if codec == 3 else data
        need(codec <= 3 and len(data) == raw, f"chunk {number} does not decode to its raw length, or its codec {codec} is unknown")
        need(not self.id_key or blake3(data, key=self.id_key).digest() == digest, f"chunk {number} is false (BLAKE3)")
        if self.load.cache_info().misses % 64 == 0:
            print(f"unfreeze: {self.load.cache_info().misses:,} chunks decoded ...", file=sys.stderr)
        return data

    def contents(self, e: Entry) -> Iterator[tuple[int, bytes]]:
        """(position, bytes) of what is to be written of a file; holes, and pages of zeros where it is sparse, are left out."""
        start, step = 0, 4096 if e.flags & SPARSE else 4 * MIB
        for place in e.chunks:
            data = self.load(place)[e.offset : e.offset + e.size] if self.chunks[place].pack != NONE else b""
            need(not (self.id_key and e.content == BUNDLED) or blake3(data, key=self.id_key).digest() == e.id, f"{e.name!r} is false")
            pieces = ((start + at, data[at : at + step]) for at in range(0, len(data), step))
            yield from ((at, piece) for at, piece in pieces if step != 4096 or piece.strip(b"\0"))
            start += self.chunks[place].raw


def settle(e: Entry, where: int | bytes, args: argparse.Namespace, **how: Any) -> None:
    """Owner, attributes, mode, time: in the order in which none undoes another. Of a symbolic link, owner and time."""
    mode = e.mode if args.setuid else e.mode & (0o3777 if e.kind == DIRECTORY else 0o1777)
    steps: list[Any] = [("chown", e.uid, e.gid)] * (os.geteuid() == 0 and not args.no_owners)
    steps += [*(("setxattr", *pair) for pair in e.attributes), ("chmod", mode)] if e.kind != SYMLINK else []
    for call, *arguments in steps:
        try:
            getattr(os, call)(where, *arguments, **how)
        except (AttributeError, OSError) as exc:
            TOLD[f"warning: {call} of an entry could not be done: {getattr(exc, 'strerror', exc)}"] += 1
    os.utime(where, ns=(e.mtime, e.mtime), **how)


def extract(snapshot: Snapshot, args: argparse.Namespace) -> None:
    """Write below TARGET by handles of the folders that are open: every name is made new, and no link is followed."""
    sources = {e.link: b"" for _, _, e in snapshot.entries() if e.kind == HARDLINK}  # all of the index is checked before a byte is written
    os.makedirs(args.target, exist_ok=True)
    need(not os.listdir(args.target), f"the target {args.target!r} is not empty")
    folders: list[tuple[Any, int]] = [(None, os.open(args.target, os.O_DIRECTORY))]
    for number, path, e in snapshot.entries():
        while len(folders) > len(path):  # these have all they hold, and get their metadata
            settle(*folders[-1], args)
            os.close(folders.pop()[1])
        sources |= {number: b"/".join(path)} if number in sources else {}
        here = folders[-1][1]
        if e.kind == DIRECTORY:
            os.mkdir(e.name, 0o700, dir_fd=here)
            folders.append((e, os.open(e.name, os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)))
        elif e.kind == FILE:
            with open(os.open(e.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=here), "wb") as file:
                for at, data in snapshot.contents(e):
                    file.seek(at)
                    file.write(data)
                file.truncate(e.size)
                settle(e, file.fileno(), args)
        elif e.kind == SYMLINK:
            os.symlink(e.target, e.name, dir_fd=here)
            settle(e, e.name, args, dir_fd=here, follow_symlinks=False)
        elif e.kind == HARDLINK:
            os.link(sources[e.link], e.name, src_dir_fd=folders[0][1], dst_dir_fd=here, follow_symlinks=False)
        TOLD["note: an entry could not be saved, and is not made (see show --files)"] += e.kind == ABSENT
    for folder, handle in reversed(folders[1:]):
        settle(folder, handle, args)


def run(args: argparse.Namespace) -> None:
    need(bool(args.target) == (args.command == "extract"), "extract needs a FOLDER, a SNAPSHOT and a TARGET; only extract has a TARGET")
    text = Path(args.recovery_key_file).read_text("ascii") if args.recovery_key_file else os.environ.get("TORPOR_RECOVERY_KEY")
    if text is None and (args.files or args.command in ("check", "extract")):
        text = getpass.getpass("recovery key (empty if there is none): ")
    repo = Repository(args.folder, parse_recovery_key(text) if text and text.strip() else None)
    ids = sorted(path.stem for path in repo.folder.glob("snapshots/*.json") if re.fullmatch(SNAPSHOT, path.stem))
    ids = ids[-1:] if args.snapshot == "latest" else [snapshot for snapshot in ids if snapshot.startswith(args.snapshot)]
    need(len(ids) == 1 or args.command == "list", f"{len(ids)} snapshots in the folder have an id that begins with {args.snapshot!r}")
    for manifest in map(repo.manifest, ids):
        if args.command in ("list", "show"):
            brief = {key: manifest[key] for key in ("snapshot", "created", "files", "raw_bytes", "private")}
            print(json.dumps(manifest, indent=2) if args.command == "show" else json.dumps(brief))
        elif args.command == "extract":
            extract(Snapshot(repo, manifest), args)
        else:
            snapshot = Snapshot(repo, manifest)
            for name, _, digest, _ in snapshot.packs if blake3 else ():
                need(blake3(repo.read(f"packs/{name}")).digest() == digest, "it is not the pack that the index names (BLAKE3)")
            TOLD["not checked: BLAKE3 of whole packs (needs the package blake3)"] += not blake3
            print(f"sound: {sum(len(data) for _, _, e in snapshot.entries() for _, data in snapshot.contents(e)):,} bytes of files")
        for number, path, e in Snapshot(repo, manifest).entries() if args.files else ():
            row = f"{'dflh?'[e.kind]}{e.mode:05o} {e.uid}:{e.gid} {e.size} {e.mtime} {os.fsdecode(b'/'.join(path))!r}"
            print(number, row, repr(os.fsdecode(e.target)) if e.kind == SYMLINK else e.link if e.kind == HARDLINK else "")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("unfreeze", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("list", "show", "check", "extract"))
    for name, times in (("folder", None), ("snapshot", "?"), ("target", "?")):
        parser.add_argument(name, nargs=times, default="")
    parser.add_argument("--recovery-key-file", metavar="FILE")
    for option in ("--files", "--no-owners", "--setuid"):
        parser.add_argument(option, action="store_true")
    args = parser.parse_args(argv)
    TOLD.clear()
    try:
        run(args)
    except Exception as exc:  # noqa: BLE001 - told, as the reason to stop
        what = repr(exc) if isinstance(exc, (LookupError, MemoryError)) else str(exc) or "forged or damaged: a seal does not fit"
        TOLD[f"error: {what} (last read: {LAST[0]})"] += 1
    for line, count in (+TOLD).items():
        print(f"unfreeze: {line}" + f" ({count:,} times)" * (count > 1), file=sys.stderr)
    return 1 if any(line.startswith("error") for line in +TOLD) else 3 if any(line.startswith("warning") for line in +TOLD) else 0


if __name__ == "__main__":
    sys.exit(main())
