#!/usr/bin/env python3
"""unfreeze: lists, checks and extracts torpor snapshots without torpor. One file, to be kept beside the data it opens.

Copy the repository's objects into a folder with any tool (it holds config.json, keys/, snapshots/ and packs/; for one snapshot,
packs/<snapshot>/ and the packs of the writers in its manifest's keyring are enough). Then, with Python 3.9 or later on Linux or
macOS:

    pip install cryptography zstandard        (Python 3.14 or later: cryptography alone)
    pip install blake3 lz4                    (optional: see below)

    python unfreeze.py list    FOLDER
    python unfreeze.py show    FOLDER SNAPSHOT [--files]
    python unfreeze.py check   FOLDER SNAPSHOT
    python unfreeze.py extract FOLDER SNAPSHOT TARGET [--path PREFIX] [--no-owners] [--setuid] [--keep-going]

SNAPSHOT is an id, the unique start of one, or `latest`. TARGET must be empty or new. The recovery key (torpor1-...) is read from
--recovery-key-file, else from the variable TORPOR_RECOVERY_KEY, else from a prompt; several keys may be given, one a line. A
repository made without encryption needs none. Without `blake3` all data is still opened under its AES-GCM seals, and the checks
that were left out are named at the end. `lz4` is needed only where a chunk was coded with it.

Exit status: 0 done; 1 stopped, for the reason given in one line; 2 wrong usage; 3 done, with warnings.
Everything here follows docs/format.md, version 1; section numbers (§) point into it.
"""
# ruff: noqa: B905, RUF007  (zip(strict=) and pairwise came with Python 3.10)

from __future__ import annotations

import argparse
import base64
import getpass
import hashlib
import hmac
import importlib
import json
import os
import re
import secrets
import signal
import struct
import sys
import time
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from itertools import accumulate
from typing import Any, BinaryIO, NamedTuple

try:
    from cryptography.exceptions import InvalidSignature, InvalidTag
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
except ImportError:
    sys.exit("unfreeze: error: the Python package `cryptography` is missing; install it with: pip install cryptography")

MIB = 1 << 20
NONE = 0xFFFFFFFF  # the parent of a root, the pack of a hole, the number of a pack's table
DIRECTORY, FILE, SYMLINK, HARDLINK, ABSENT = range(5)
BUNDLED, CHUNKED = 1, 2
TORN, SPARSE, ATTRIBUTES = 1, 2, 4
ID = r"\d{8}T\d{9}-[0-9a-f]{8}"
SNAPSHOT, INDEX, PACK = (re.compile(ID + tail, re.ASCII) for tail in ("", r"/index-[0-9a-f]{8}", r"/[0-9a-f]{8}-(?:0|[1-9]\d*)"))
UTF8 = "utf" in (sys.stdout.encoding or "").lower()
ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")


class Refused(Exception):
    """Why nothing (more) is done, as one line for a person."""


def need(condition: object, message: str) -> None:
    if not condition:
        raise Refused(message)


def shown(text: str | bytes) -> str:
    """Text fit for a terminal: no control characters, every odd byte as an escape."""
    text = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    return "".join(c if c.isprintable() and (UTF8 or c.isascii()) else c.encode("unicode_escape").decode() for c in text)


class Report:
    """Progress, warnings and notes, on stderr; what could not be checked is counted and told at the end."""

    def __init__(self) -> None:
        self.warnings, self.notes, self.unchecked, self.bytes, self.last = 0, Counter[str](), Counter[str](), 0, time.monotonic()

    def warn(self, message: str) -> None:
        self.warnings += 1
        if self.warnings <= 50:
            print(f"unfreeze: warning: {message}", file=sys.stderr)

    def note(self, what: str, count: int = 1) -> None:
        self.notes[what] += count

    def progress(self, size: int) -> None:
        self.bytes += size
        if time.monotonic() - self.last > 2:
            self.last = time.monotonic()
            print(f"unfreeze: {human(self.bytes)} ...", file=sys.stderr)

    def finish(self) -> int:
        if self.warnings > 50:
            print(f"unfreeze: warning: ... and {self.warnings - 50} more", file=sys.stderr)
        for what, count in (+self.notes).items():
            print(f"unfreeze: note: {count} {what}", file=sys.stderr)
        for what, count in self.unchecked.items():
            print(f"unfreeze: not checked: {count} {what}", file=sys.stderr)
        return 3 if self.warnings else 0


def human(size: int) -> str:
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >> shift:
            return f"{size / (1 << shift):.1f} {unit}"
    return f"{size} B"


# --- primitives -----------------------------------------------------------------------------------------------------------


def hkdf_extract(salt: bytes, key: bytes) -> bytes:
    return hmac.new(salt or bytes(32), key, "sha256").digest()


def hkdf(key: bytes, *info: str | bytes, salt: bytes = b"") -> bytes:
    """HKDF-SHA256 to 32 bytes, which is one block; the parts of `info` are joined by NUL (§4)."""
    joined = b"\0".join(part.encode() if isinstance(part, str) else part for part in info)
    return hmac.new(hkdf_extract(salt, key), joined + b"\1", "sha256").digest()


def hpke_open(box: X25519PrivateKey, sealed: bytes, info: bytes) -> bytes:
    """RFC 9180 base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, empty AAD; sealed is enc (32) and ciphertext."""

    def extract(suite: bytes, salt: bytes, label: bytes, key: bytes) -> bytes:
        return hkdf_extract(salt, b"HPKE-v1" + suite + label + key)

    def expand(suite: bytes, key: bytes, label: bytes, context: bytes, size: int) -> bytes:
        return hmac.new(key, struct.pack(">H", size) + b"HPKE-v1" + suite + label + context + b"\1", "sha256").digest()[:size]

    enc, kem, suite = sealed[:32], b"KEM\0\x20", b"HPKE\0\x20\0\1\0\2"
    shared = box.exchange(X25519PublicKey.from_public_bytes(enc))
    shared = expand(kem, extract(kem, b"", b"eae_prk", shared), b"shared_secret", enc + public(box), 32)
    context = b"\0" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    secret = extract(suite, shared, b"secret", b"")
    key, nonce = expand(suite, secret, b"key", context, 32), expand(suite, secret, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, sealed[32:], b"")


def public(key: X25519PrivateKey | Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def unseal(key: bytes, nonce: int, sealed: bytes, aad: bytes, what: str) -> bytes:
    try:
        return AESGCM(key).decrypt(nonce.to_bytes(12, "big"), sealed, aad)
    except (InvalidTag, ValueError):
        raise Refused(f"{what} is damaged or not what it claims to be (its seal does not open)") from None


def b64(text: str, size: int | None = None) -> bytes:
    data = base64.b64decode(text, validate=True)
    need(size is None or len(data) == size, "a base64 value has the wrong length")
    return data


@cache
def optional(*names: str) -> Any:
    """The first of these modules that is installed, or None."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def zstd(data: bytes | memoryview, size: int) -> bytes:
    """Decode exactly one zstd frame with exactly that content size and a window of at most 8 MiB (§6)."""
    z = optional("compression.zstd", "backports.zstd", "zstandard")
    need(z, "no zstd decoder; install one with: pip install zstandard (0.22 or later)")
    try:
        if hasattr(z, "get_frame_info"):
            need(z.get_frame_info(data).decompressed_size == size, "a zstd frame has not the content size expected")
            frame = z.ZstdDecompressor(options={z.DecompressionParameter.window_log_max: 23})
            out = frame.decompress(data, max_length=size + 1)
            need(frame.eof and not frame.unused_data, "a zstd frame does not end where it should")
        else:
            need(z.get_frame_parameters(data).content_size == size, "a zstd frame has not the content size expected")
            frame = z.ZstdDecompressor(max_window_size=8 * MIB)
            out = frame.decompress(data, max_output_size=size, allow_extra_data=False)
    except z.ZstdError as exc:
        raise Refused(f"a zstd frame is damaged: {exc}") from None
    need(len(out) == size, "a zstd frame does not end where it should")
    return bytes(out)


def blake3(data: bytes, key: bytes | None = None) -> bytes | None:
    """BLAKE3 of `data`, keyed if there is a key; None where the package is missing."""
    module = optional("blake3")
    return bytes(module.blake3(data, key=key).digest()) if module else None


def ints(code: str, data: memoryview, count: int) -> array[int]:
    """A column of `count` little-endian integers."""
    out: array[int] = array(code)
    need(len(data) == count * out.itemsize, "the index is not valid: a column's length does not fit its rows")
    out.frombytes(data)
    if sys.byteorder == "big":
        out.byteswap()
    return out


# --- codecs (§6) ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def rotation_masks(n: int, w: int) -> tuple[int, int]:
    return int.from_bytes((b"\xff" * (w - 1) + b"\x7f") * n, "little"), int.from_bytes((b"\1" + bytes(w - 1)) * n, "little")


def decode_planes(coded: memoryview, raw: int) -> bytes:
    need(len(coded) >= 16, "a planes chunk is too short")
    layout, w, lead, tail, n, frame, zero = struct.unpack_from("<BBBBIII", coded)
    sound = layout == 1 and w in (2, 4) and max(lead, tail) < w and n >= 1 and zero == 0
    need(sound and 131_072 <= frame <= 4 * MIB and lead + n * w + tail == raw, "a planes chunk has an impossible head")
    modes = bytes(coded[16 : 16 + w])
    need(len(modes) == w and max(modes) <= 1, "a planes chunk has an impossible plane")
    frames = -(-n // frame)
    at = 16 + w + 4 * frames * sum(modes)
    need(at + lead + tail <= len(coded), "a planes chunk is too short")
    lengths = iter(struct.unpack_from(f"<{frames * sum(modes)}I", coded, 16 + w))
    ends = bytes(coded[at : at + lead + tail])
    at += lead + tail

    def take(size: int) -> memoryview:
        nonlocal at
        start = -(-at // 16) * 16
        need(start + size <= len(coded) and not any(coded[at:start]), "a planes chunk is too short or has a gap that is not zero")
        at = start + size
        return coded[start:at]

    out = bytearray(n * w)
    for k, in_frames in enumerate(modes):
        parts = (zstd(take(next(lengths)), min(frame, n - j * frame)) for j in range(frames))
        out[k::w] = b"".join(parts) if in_frames else take(n)
    need(at == len(coded), "a planes chunk has bytes after its end")
    low, ones = rotation_masks(n, w)  # rotate every element right by one bit, all in one long integer
    rotated = int.from_bytes(out, "little")
    body: bytes = ((rotated >> 1) & low | (rotated & ones) << (8 * w - 1)).to_bytes(n * w, "little")
    return ends[:lead] + body + ends[lead:]


def decode(codec: int, coded: bytes, raw: int) -> bytes:
    if codec == 1:
        return zstd(coded, raw)
    if codec == 2:
        block = optional("lz4.block")
        need(block, "this snapshot needs lz4; install it with: pip install lz4")
        try:
            coded = bytes(block.decompress(coded, uncompressed_size=raw))
        except (block.LZ4BlockError, ValueError) as exc:
            raise Refused(f"an lz4 block is damaged: {exc}") from None
    elif codec == 3:
        return decode_planes(memoryview(coded), raw)
    elif codec != 0:
        raise Refused(f"codec {codec} is not known to this program")
    need(len(coded) == raw, "a chunk does not decode to its raw length")
    return coded


# --- repository: keys and signed JSON (§3, §4) ----------------------------------------------------------------------------


def parse_recovery_key(text: str) -> bytes:
    digits = re.sub(r"[\s-]", "", text).lower().translate(str.maketrans("oil", "011"))
    digits = digits[7:] if digits.startswith("t0rp0r1") and len(digits) == 43 else digits
    values = ["0123456789abcdefghjkmnpqrstvwxyz".find(c) for c in digits]
    need(len(values) == 36 and min(values) >= 0, "the recovery key must be torpor1- and 36 letters and digits (no u)")
    number = 0
    for value in values:
        number = number << 5 | value
    data = (number >> 4).to_bytes(22, "big")
    sound = not number & 15 and hashlib.sha256(b"torpor recovery v1\0" + data[:20]).digest()[:2] == data[20:]
    need(sound, "the recovery key has a typing error (its check digits do not fit)")
    return data[:20]


def key_id(sign: bytes, box: bytes) -> str:
    return hashlib.sha256(b"torpor key v1\0" + sign + box).hexdigest()[:16]


def open_object(folder: str, name: str) -> BinaryIO:
    try:
        return open(os.path.join(folder, name), "rb")
    except FileNotFoundError:
        raise Refused(f"{name} is missing from the folder") from None


def read_object(folder: str, name: str, limit: int = 64 * MIB) -> bytes:
    with open_object(folder, name) as file:
        data = file.read(limit + 1)
    need(len(data) <= limit, f"{name} is larger than it can be")
    return data


def read_json(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object of format version 1 (§11)."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Refused(f"{what} is damaged (not JSON)") from None
    need(isinstance(value, dict), f"{what} is damaged (not a JSON object)")
    version = value.get("format")
    need(isinstance(version, int) and version >= 1, f"{what} is damaged (it has no format version)")
    need(version == 1, f"{what} has format version {version}; this program reads version 1 only")
    return dict(value)


def verified(data: bytes, context: str, repository: str, signers: dict[str, bytes], what: str) -> dict[str, Any]:
    tail = re.fullmatch(rb',"key":"([0-9a-f]{16})","signature":"([A-Za-z0-9+/]{86}==)"\}\n', data[-130:])
    if tail is None or len(data) < 142 or data[:10] != b'{"signed":':
        raise Refused(f"{what} is damaged (not signed JSON)")
    key = tail[1].decode()
    try:
        message = b"\0".join((context.encode(), repository.encode(), data[10:-130]))
        Ed25519PublicKey.from_public_bytes(signers[key]).verify(b64(tail[2].decode(), 64), message)
    except KeyError:
        raise Refused(f"{what} is signed by key {key}, which is none of this repository's: {', '.join(signers)}") from None
    except (InvalidSignature, ValueError):
        read_json(data[10:-130], what)  # a later version may sign otherwise; then that is the reason to give
        raise Refused(f"{what} is forged or damaged (its signature does not verify)") from None
    return read_json(data[10:-130], what)


def read_config(folder: str, held: Repository | None) -> dict[str, Any]:
    """config.json: verified with the keys held, or else only against itself, which shows damage and no more."""
    data = read_object(folder, "config.json", MIB)
    try:
        claim = read_json(data[10:-130], "config.json")
        keys = {str(k["id"]): (b64(k["sign"], 32), b64(k["box"], 32)) for k in claim["keys"]}
        signers = held.signers if held else {str(k["id"]): keys[k["id"]][0] for k in claim["keys"][-1:]}
        payload = verified(data, "torpor config v1", held.id if held else str(claim["repository"]), signers, "config.json")
        need(payload["encryption"] in ("none", "hpke-aes256gcm"), "config.json names an unknown encryption")
        need(re.fullmatch("[0-9a-f]{32}", payload["repository"]), "config.json names an impossible repository id")
        need(not held or payload["repository"] == held.id, "config.json is of another repository")
    except (KeyError, TypeError, ValueError) as exc:
        raise Refused(f"config.json is damaged ({exc!r})") from None
    for name, (sign, box) in keys.items():
        need(name == key_id(sign, box), f"config.json: the public keys of {name} do not give that key id")
        need(not held or held.signers.get(name, sign) == sign, f"config.json: the keys of {name} are not those in keys/")
    payload["signers"] = {name: sign for name, (sign, _) in keys.items()}
    return payload


class Repository:
    """A folder and the keys to it. `encryption` is None where only the recovery key is left to go by (no sound config.json)."""

    def __init__(self, folder: str, recovery: list[bytes], report: Report) -> None:
        self.folder, self.report, self.id = folder, report, ""
        self.signers: dict[str, bytes] = {}
        self.boxes: list[X25519PrivateKey] = []
        self.roots: list[bytes] = []
        self.encryption: str | None = None
        for key in recovery:
            self._unwrap_all(key)
        need(not recovery or self.signers, "the recovery key opens nothing under keys/ (is it that of this repository?)")
        try:
            config = read_config(folder, self if recovery else None)
        except Refused as exc:
            need(recovery, f"{exc}; the recovery key and keys/ would do without it")
            report.warn(f"{exc}; going on with the recovery key and keys/ alone")
            return
        self.id, self.encryption = config["repository"], config["encryption"]
        self.signers = self.signers or config["signers"]

    def _unwrap_all(self, recovery: bytes) -> None:
        directory = os.path.join(self.folder, "keys")
        for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
            if not re.fullmatch(r"[0-9a-f]{16}\.json", name):
                continue
            try:
                stored = read_json(read_object(self.folder, f"keys/{name}", MIB), f"keys/{name}")
                repository, key = stored["repository"].encode(), stored["key"].encode()
                wrap = hkdf(recovery, "torpor wrap v1", repository, b64(stored["salt"], 32))
                private = json.loads(AESGCM(wrap).decrypt(bytes(12), b64(stored["wrapped"]), repository + b"\0" + key))
                sign = public(Ed25519PrivateKey.from_private_bytes(b64(private["sign"], 32)))
                box, root = X25519PrivateKey.from_private_bytes(b64(private["box"], 32)), b64(private["root"], 32)
            except InvalidTag:
                continue  # under another recovery key; if none opens, that is told
            except (Refused, KeyError, TypeError, ValueError, AttributeError) as exc:
                self.report.warn(f"left keys/{name} aside: {exc}")
                continue
            need(key_id(sign, public(box)) == key.decode() == name[:16], f"keys/{name}: its private keys do not give that key id")
            need(re.fullmatch("[0-9a-f]{32}", stored["repository"]), f"keys/{name} names an impossible repository id")
            need(self.id in ("", stored["repository"]), "keys/ holds keys of two repositories")
            self.id = stored["repository"]
            self.signers[name[:16]] = sign
            self.boxes.append(box)
            self.roots += [root] if root not in self.roots else []

    def open_box(self, sealed: bytes, kind: str, name: str) -> bytes:
        """What was sealed to the repository (§4): a data key of writer `name` or the private fields of snapshot `name`."""
        if self.encryption == "none":
            return sealed
        for box in self.boxes:
            try:
                return hpke_open(box, sealed, b"\0".join((kind.encode(), self.id.encode(), name.encode())))
            except (InvalidTag, ValueError):
                continue
        if self.encryption is None and (len(sealed) == 32 or sealed[:1] == b"{"):
            return sealed  # no config.json to tell, yet signed by a key held: a repository without encryption
        raise Refused(f"the keys held do not open the {kind.split()[1]} of {name}")

    def snapshots(self) -> list[str]:
        directory = os.path.join(self.folder, "snapshots")
        names = os.listdir(directory) if os.path.isdir(directory) else []
        return sorted(n[:-5] for n in names if n.endswith(".json") and SNAPSHOT.fullmatch(n[:-5]))

    def find(self, wanted: str) -> str:
        found = self.snapshots()
        found = found[-1:] if wanted == "latest" else [s for s in found if s.startswith(wanted)]
        need(found, f"no snapshot {shown(wanted)} in the folder")
        need(len(found) == 1, f"{shown(wanted)} is the start of {len(found)} snapshot ids")
        return found[0]

    def manifest(self, snapshot: str) -> dict[str, Any]:
        what = f"snapshots/{snapshot}.json"
        m = verified(read_object(self.folder, what), "torpor manifest v1", self.id, self.signers, what)
        need(m.get("snapshot") == snapshot, f"{what} is the manifest of another snapshot")
        return m

    def private(self, manifest: dict[str, Any]) -> dict[str, Any] | None:
        """Name, machine, roots and so on; None without the key to them."""
        if self.encryption == "hpke-aes256gcm" and not self.boxes:
            return None
        if not manifest.get("private"):
            return {}
        try:
            fields = json.loads(self.open_box(b64(manifest["private"]), "torpor private v1", manifest["snapshot"]))
            return dict(fields)
        except (KeyError, TypeError, ValueError) as exc:
            raise Refused(f"the private fields of {manifest['snapshot']} are damaged ({exc!r})") from None


# --- index (§7) -----------------------------------------------------------------------------------------------------------


class Section(NamedTuple):
    kind: int
    rows: int
    sealed: int
    raw: int
    offset: int


class Pack(NamedTuple):
    name: str
    size: int
    blake3: bytes
    salt: bytes


class Entry(NamedTuple):
    number: int
    parent: int
    name: bytes
    kind: int
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    flags: int
    content: int
    chunk: int
    offset: int
    id: bytes
    refs: array[int]
    extents: list[tuple[int, int]]
    target: bytes
    link: int
    attributes: list[tuple[bytes, bytes]]


def columns(data: bytes, count: int) -> list[memoryview]:
    view, out, at = memoryview(data), [], 0
    for _ in range(count):
        need(at + 4 <= len(view), "the index is not valid: a column is missing")
        size = int.from_bytes(view[at : at + 4], "little")
        need(size <= len(view) - at - 4, "the index is not valid: a column is longer than its section")
        out.append(view[at + 4 : at + 4 + size])
        at += 4 + size
    need(at == len(view), "the index is not valid: bytes after the last column")
    return out


def texts(lengths: Iterable[int], data: memoryview) -> list[bytes]:
    ends = list(accumulate(lengths, initial=0))
    need(ends[-1] == len(data), "the index is not valid: a column's length does not fit its rows")
    return [bytes(data[a:b]) for a, b in zip(ends, ends[1:])]


def parse_attributes(data: bytes) -> list[tuple[bytes, bytes]]:
    out, at = [], 0
    while at < len(data):
        need(at + 6 <= len(data), "an attribute is cut off")
        name_size, size = struct.unpack_from("<HI", data, at)
        name, value = data[at + 6 : at + 6 + name_size], data[at + 6 + name_size : at + 6 + name_size + size]
        at += 6 + name_size + size
        need(at <= len(data), "an attribute is cut off")
        need(name in ACLS or (name[:5] == b"user." and len(name) > 5 and 0 not in name), "an attribute's name is not allowed")
        out.append((name, value))
    return out


class Index:
    """The opened index of one snapshot: packs, chunk list and roots in memory; entries one block at a time."""

    def __init__(self, repo: Repository, manifest: dict[str, Any]) -> None:
        self.repo, self.snapshot = repo, str(manifest["snapshot"])
        need(repo.encryption != "hpke-aes256gcm" or repo.boxes, "this repository is encrypted: the recovery key is needed")
        try:
            where = manifest["index"]
            self.name, size, head_size = str(where["name"]), int(where["size"]), int(where["head_size"])
            self.sealed_keys = {str(writer): b64(sealed) for writer, sealed in manifest["keyring"].items()}
            digests = (str(where["sha256"]), str(where["head_sha256"]))
            lineage = str(manifest["lineage"])
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise Refused(f"the manifest of {self.snapshot} lacks a field it must have ({exc!r})") from None
        need(INDEX.fullmatch(self.name) and self.name.startswith(self.snapshot + "/"), "the manifest names an impossible index")
        self.writer = self.name.replace("/index-", "/")
        self.id_keys = [hkdf(root, "torpor id v1", lineage) for root in repo.roots]
        self.keys: dict[str, bytes] = {}
        with open_object(repo.folder, f"packs/{self.name}") as file:
            need(os.fstat(file.fileno()).st_size == size, "the index has not the size in the manifest")
            need(32 <= head_size <= min(size, 1 << 30), "the manifest gives an impossible size of the index's head")
            head = file.read(head_size)
            whole = hashlib.sha256(head)
            for block in iter(lambda: file.read(MIB), b""):
                whole.update(block)
        found = (whole.hexdigest(), hashlib.sha256(head).hexdigest())
        need(found == digests, "the index is not the one in the manifest (SHA-256)")
        self._parse_head(head, size)
        self._load_chunks()
        self._load_meta()

    def _parse_head(self, head: bytes, size: int) -> None:
        magic, version, zero, length, sections, packs, names, zero2 = struct.unpack_from("<8sHHIIIII", head)
        need(magic == b"torporIX", "the index is not an index")
        need(version == 1, f"the index has format version {version}; this program reads version 1 only")
        expected = 32 + 24 * sections + 107 * packs + names
        need(length == len(head) == expected and not zero and not zero2, "the index has an impossible head")
        self.sections, at = [], length
        for kind, rows, sealed, raw, offset in struct.iter_unpack("<B3xIIIQ", head[32 : 32 + 24 * sections]):
            need(1 <= kind <= 4 and (kind == 4 or rows <= 65536), "the index has an unknown or too long section")
            need(offset == at and sealed <= size - at and raw <= 64 * MIB, "the index has an impossible section")
            self.sections.append(Section(kind, rows, sealed, raw, offset))
            at += sealed
        need(at == size, "the index has bytes after its last section")
        kinds = Counter(s.kind for s in self.sections)
        need(kinds[1] == 1 and kinds[3] >= 1 and kinds[4] <= 1, "the index lacks a section")
        view, at = memoryview(head)[32 + 24 * sections :], 0
        parts = []
        for width in (2 * packs, names, 8 * packs, 32 * packs, 32 * packs, packs, 32 * packs):
            parts.append(view[at : at + width])
            at += width
        self.packs: list[Pack] = []
        for i, (raw_name, pack_size) in enumerate(zip(texts(ints("H", parts[0], packs), parts[1]), ints("Q", parts[2], packs))):
            name = raw_name.decode("ascii", "replace")
            need(PACK.fullmatch(name), "the index names an impossible pack")
            need(
                name.rpartition("-")[0] in self.sealed_keys, f"the index names pack {name} of a writer that is not in the keyring"
            )
            need(64 < pack_size <= 64 * MIB, f"the index gives pack {name} an impossible size")
            self.packs.append(Pack(name, pack_size, *(bytes(parts[p][32 * i : 32 * i + 32]) for p in (3, 4))))
        need(len({p.name for p in self.packs}) == packs, "the index names a pack twice")

    def data_key(self, writer: str) -> bytes:
        if writer not in self.keys:
            need(writer in self.sealed_keys, f"the manifest's keyring lacks the key of writer {writer}")
            self.keys[writer] = self.repo.open_box(self.sealed_keys[writer], "torpor datakey v1", writer)
            need(len(self.keys[writer]) == 32, f"the data key of writer {writer} is not 32 bytes")
        return self.keys[writer]

    def read(self, kind: int) -> Iterator[tuple[Section, bytes]]:
        """The opened sections of a kind, in order."""
        key = hkdf(self.data_key(self.writer), "torpor index v1", self.writer)
        bound = b"torpor section v1\0" + bytes.fromhex(self.repo.id) + self.writer.encode() + b"\0"
        with open_object(self.repo.folder, f"packs/{self.name}") as file:
            for number, s in enumerate(self.sections):
                if s.kind == kind:
                    file.seek(s.offset)
                    aad = bound + struct.pack("<IBII", number, kind, s.rows, s.raw)
                    yield s, zstd(unseal(key, number, file.read(s.sealed), aad, f"section {number} of the index"), s.raw)

    def _load_chunks(self) -> None:
        self.columns: list[array[int]] = [array(code) for code in "IIIIIB"]
        self.ids = bytearray()
        for s, data in self.read(2):
            parts = columns(data, 7)
            for column, part in zip(self.columns, parts):
                column.extend(ints(column.typecode, part, s.rows))
            need(len(parts[6]) == 32 * s.rows, "the index is not valid: a column's length does not fit its rows")
            self.ids += parts[6]
        self.pack, self.number, self.offset, self.sealed, self.raw, self.codec = self.columns
        for i, (pack, number, offset, sealed, raw, codec) in enumerate(zip(*self.columns)):
            if pack == NONE:
                sound = not (number or offset or sealed or codec or any(self.ids[32 * i : 32 * i + 32])) and 1 <= raw <= 1 << 30
            else:
                sound = pack < len(self.packs) and number < 65535 and 1 <= raw <= 4 * MIB
                sound = sound and offset >= 64 and sealed > 16 and offset + sealed <= self.packs[pack].size
            need(sound, f"the index is not valid: chunk {i} is impossible")

    def _load_meta(self) -> None:
        ((s, data),) = self.read(1)
        try:
            meta = json.loads(data)
            self.roots = [(b64(r["name"]), b64(r["path"]), str(r["kind"])) for r in meta["roots"]]
            snapshot = meta["snapshot"]
        except (KeyError, TypeError, ValueError, RecursionError) as exc:
            raise Refused(f"the index is not valid: its meta section is damaged ({exc!r})") from None
        need(snapshot == self.snapshot and s.rows == 1, "the index is that of another snapshot")
        names = {name for name, _, _ in self.roots}
        need(0 < len(names) == len(self.roots), "the index is not valid: it has no roots, or two of one name")

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """(depth, entry), all checked, in tree order; a root has depth 0."""
        kinds, stack, roots = bytearray(), list[list[Any]](), 0
        for s, data in self.read(3):
            for e in self._block(s.rows, columns(data, 24), len(kinds)):
                if e.parent == NONE:
                    stack.clear()
                    kind = {DIRECTORY: "directory", FILE: "file"}.get(e.kind, "")
                    sound = roots < len(self.roots) and (self.roots[roots][0], self.roots[roots][2]) == (e.name, kind)
                    need(sound, f"the index is not valid: entry {e.number} is not the root that meta names")
                    roots += 1
                else:
                    while stack and stack[-1][0] != e.parent:
                        stack.pop()
                    need(stack and stack[-1][1] < e.name, f"the index is not valid: entry {e.number} is out of tree order")
                    stack[-1][1] = e.name
                sound = e.kind != HARDLINK or (e.link < e.number and kinds[e.link] == FILE)
                need(sound, f"the index is not valid: entry {e.number} links to what is not an earlier file")
                kinds.append(e.kind)
                yield len(stack), e
                if e.kind == DIRECTORY:
                    stack.append([e.number, b""])
        need(roots == len(self.roots), "the index is not valid: a root has no entry")

    def _block(self, n: int, c: list[memoryview], base: int) -> Iterator[Entry]:
        kind, flags, content = ints("B", c[3], n), ints("B", c[9], n), ints("B", c[10], n)
        bundled, chunked, links = content.count(BUNDLED), content.count(CHUNKED), kind.count(HARDLINK)
        sparse, attributed = (sum(1 for f in flags if f & bit) for bit in (SPARSE, ATTRIBUTES))
        bundles = iter(zip(ints("I", c[11], bundled), ints("I", c[12], bundled), texts([32] * bundled, c[13])))
        ref_counts, extent_counts = ints("I", c[14], chunked), ints("I", c[17], sparse)
        ints("B", c[15], chunked)
        all_refs = ints("I", c[16], sum(ref_counts))
        all_extents = ints("Q", c[18], 2 * sum(extent_counts))
        ref_ends, extent_ends = accumulate(ref_counts), accumulate(extent_counts)
        targets = iter(texts(ints("H", c[19], kind.count(SYMLINK)), c[20]))
        link_to = iter(ints("I", c[21], links))
        attributes = iter(texts(ints("I", c[22], attributed), c[23]))
        ref_at = extent_at = 0
        fixed = (ints(code, c[j], n) for j, code in ((4, "H"), (5, "I"), (6, "I"), (7, "q"), (8, "Q")))
        rows: Any = zip(ints("I", c[0], n), texts(ints("H", c[1], n), c[2]), kind, *fixed, flags, content)
        for number, row in enumerate(rows, base):
            _, name, what, mode, _, _, _, size, flag, held = row
            chunk, offset, digest, refs, target, link = NONE, 0, b"", array("I"), b"", NONE
            extents: list[tuple[int, int]] = []
            if held == BUNDLED:
                chunk, offset, digest = next(bundles)
            elif held == CHUNKED:
                start, ref_at = ref_at, next(ref_ends)
                refs = all_refs[start:ref_at]
            if flag & SPARSE:
                start, extent_at = extent_at, next(extent_ends)
                pairs = all_extents[2 * start : 2 * extent_at]
                extents = [(a, a + length) for a, length in zip(pairs[::2], pairs[1::2])]
            if what == SYMLINK:
                target = next(targets)
            if what == HARDLINK:
                link = next(link_to)
            try:
                attrs = parse_attributes(next(attributes)) if flag & ATTRIBUTES else []
                e = Entry._make((number, *row, chunk, offset, digest, refs, extents, target, link, attrs))
                sound = 0 < len(name) < 256 and name not in (b".", b"..") and b"/" not in name and 0 not in name
                need(sound, "its name is not allowed")
                need(what <= ABSENT and mode <= 0o7777 and flag <= 7 and held <= CHUNKED, "a field has an unknown value")
                need(what == FILE or not (size or flag & SPARSE), "it is no file and has a size")
                need((held != 0) == (size > 0) and size < 1 << 63, "its size is impossible")
                need(what != SYMLINK or (0 < len(target) < 4096 and 0 not in target), "its target is impossible")
                self._check_content(e)
            except Refused as exc:
                raise Refused(f"the index is not valid: entry {number}: {exc}") from None
            yield e

    def _check_content(self, e: Entry) -> None:
        if e.content == BUNDLED:
            sound = e.chunk < len(self.raw) and self.pack[e.chunk] != NONE and e.offset + e.size <= self.raw[e.chunk]
            need(sound, "it lies outside its chunk")
        elif e.content == CHUNKED:
            need(max(e.refs, default=NONE) < len(self.raw), "it names a chunk that is not in the list")
            need(sum(map(self.raw.__getitem__, e.refs)) == e.size, "its chunks do not add up to its size")
        end = -1
        for start, stop in e.extents:
            need(end < start < stop <= e.size, "its extents are impossible")
            end = stop


# --- data (§5) ------------------------------------------------------------------------------------------------------------


class Data:
    """Raw bytes of chunks and files; holds the last few decoded chunks and one pack's bytes at most."""

    def __init__(self, index: Index, report: Report) -> None:
        self.index, self.report, self.keys = index, report, dict[int, bytes]()
        self.cache: OrderedDict[int, bytes] = OrderedDict()
        self.seen = bytearray(len(index.raw))

    def read_pack(self, number: int, offset: int = 0, size: int = -1) -> bytes:
        pack = self.index.packs[number]
        if number not in self.keys:
            self.keys[number] = hkdf(self.index.data_key(pack.name.rpartition("-")[0]), "torpor pack v1", pack.name, pack.salt)
        with open_object(self.index.repo.folder, f"packs/{pack.name}") as file:
            need(os.fstat(file.fileno()).st_size == pack.size, f"packs/{pack.name} has not the size in the index")
            file.seek(offset)
            return file.read(size)

    def check_id(self, data: bytes, digest: bytes, what: str) -> None:
        if not self.index.id_keys:
            self.report.unchecked["ids of raw bytes (the key to them is in keys/, under the recovery key)"] += 1
            return
        for key in self.index.id_keys:
            found = blake3(data, key)
            if found is None:
                self.report.unchecked["ids of raw bytes (needs the package blake3)"] += 1
            if found in (None, digest):
                return
        raise Refused(f"{what} is not what the index says (BLAKE3)")

    def load(self, i: int) -> bytes:
        """The raw bytes of chunk `i` of the chunk list, opened, decoded and checked."""
        if i in self.cache:
            self.cache.move_to_end(i)
            return self.cache[i]
        x = self.index
        pack, number, raw = x.packs[x.pack[i]], x.number[i], x.raw[i]
        what = f"chunk {number} of packs/{pack.name}"
        sealed = self.read_pack(x.pack[i], x.offset[i], x.sealed[i])
        aad = b"torpor chunk v1\0" + struct.pack("<H", 1) + bytes.fromhex(x.repo.id) + pack.name.encode() + b"\0"
        coded = unseal(self.keys[x.pack[i]], number, sealed, aad + struct.pack("<IBI", number, x.codec[i], raw), what)
        try:
            data = decode(x.codec[i], coded, raw)
        except Refused as exc:
            raise Refused(f"{what}: {exc}") from None
        self.check_id(data, bytes(x.ids[32 * i : 32 * i + 32]), what)
        self.seen[i] = 1
        self.cache[i] = data
        if len(self.cache) > 8:
            self.cache.popitem(last=False)
        return data

    def _pieces(self, e: Entry) -> Iterator[tuple[int, bytes]]:
        """(position, bytes) of a file, without holes of the chunk list."""
        if e.content == BUNDLED:
            data = self.load(e.chunk)[e.offset : e.offset + e.size]
            self.check_id(data, e.id, f"the file {shown(e.name)}")
            yield 0, data
        at = 0
        for ref in e.refs:
            if self.index.pack[ref] != NONE:
                yield at, self.load(ref)
            at += self.index.raw[ref]

    def parts(self, e: Entry) -> Iterator[tuple[int, bytes | memoryview]]:
        """(position, bytes) to write; of a sparse file only its extents, with the rest checked to be zeros."""
        k = 0
        for start, data in self._pieces(e):
            self.report.progress(len(data))
            if not e.flags & SPARSE:
                yield start, data
                continue
            at, end = start, start + len(data)
            while k < len(e.extents) and e.extents[k][0] < end:
                first, stop = max(e.extents[k][0], at), min(e.extents[k][1], end)
                if first < stop:
                    need(data.count(0, at - start, first - start) == first - at, f"{shown(e.name)} has data in a hole")
                    yield first, memoryview(data)[first - start : stop - start]
                    at = stop
                if e.extents[k][1] > end:
                    break
                k += 1
            need(data.count(0, at - start) == end - at, f"{shown(e.name)} has data in a hole")

    def check_packs(self) -> None:
        """Every pack the index names: header, salt, table, coverage, BLAKE3; and that the chunk list repeats the tables (§5)."""
        x = self.index
        order = iter(sorted((i for i in range(len(x.raw)) if x.pack[i] != NONE), key=x.pack.__getitem__))
        i = next(order, None)
        for number, pack in enumerate(x.packs):
            what = f"packs/{pack.name}"
            data = self.read_pack(number)
            found = blake3(data)
            if found is None:
                self.report.unchecked["BLAKE3 of whole packs (needs the package blake3)"] += 1
            need(found in (None, pack.blake3), f"{what} is not the one the index names (BLAKE3)")
            magic, version, kind, zero, count, at, size, zero2, salt = struct.unpack_from("<8sHBBIIIQ32s", data)
            need(magic == b"torporPK", f"{what} is not a pack")
            need(version == 1, f"{what} has format version {version}; this program reads version 1 only")
            sound = kind in (1, 2, 3) and not zero and not zero2 and salt == pack.salt
            need(sound and 1 <= count <= 65535 and at + size == len(data), f"{what} has an impossible header")
            aad = b"torpor table v1\0" + bytes.fromhex(x.repo.id) + pack.name.encode() + b"\0" + data[:64]
            table = unseal(self.keys[number], NONE, data[at:], aad, f"the table of {what}")
            need(len(table) == 48 * count, f"{what} has a table of the wrong length")
            rows, place = list(struct.iter_unpack("<IIIB3s32s", table)), 64
            for offset, sealed, raw, _, zeros, _ in sorted(rows):
                sound = offset == place and sealed > 16 and 1 <= raw <= 4 * MIB and not any(zeros)
                need(sound, f"{what} has an impossible table")
                place += sealed
            need(place == at, f"{what} has bytes that no chunk covers")
            while i is not None and x.pack[i] == number:
                row = (x.offset[i], x.sealed[i], x.raw[i], x.codec[i], bytes(3), bytes(x.ids[32 * i : 32 * i + 32]))
                need(x.number[i] < count and rows[x.number[i]] == row, f"the index contradicts the table of {what}")
                i = next(order, None)
            self.report.progress(len(data))


# --- extraction -----------------------------------------------------------------------------------------------------------


class Selection:
    """Which entries --path selects, as they come in tree order."""

    OUTSIDE, ABOVE, INSIDE = range(3)

    def __init__(self, prefix: str) -> None:
        self.prefix = [part for part in os.fsencode(prefix).split(b"/") if part]
        self.states: list[int] = []

    def of(self, depth: int, name: bytes) -> int:
        del self.states[depth:]
        state = self.states[-1] if depth else self.ABOVE if self.prefix else self.INSIDE
        if state == self.ABOVE:
            state = self.OUTSIDE if name != self.prefix[depth] else self.INSIDE if depth + 1 == len(self.prefix) else self.ABOVE
        self.states.append(state)
        return state


class Tree:
    """Writes into TARGET by directory handles alone: each name is made new, none is followed, one handle is open at a time."""

    FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

    def __init__(self, target: str, owners: bool, setuid: bool, report: Report) -> None:
        os.makedirs(target, exist_ok=True)
        self.top = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        need(not os.listdir(self.top), f"the target {shown(target)} is not empty")
        self.here, self.owners, self.setuid, self.report = os.dup(self.top), owners, setuid, report
        self.levels: list[tuple[Entry, tuple[int, int]]] = []  # directories down to here; their parents' devices and inodes
        self.stage, self.stage_name = -1, f".unfreeze-{secrets.token_hex(8)}"

    def ascend(self, depth: int) -> None:
        """Close the directories below `depth`, giving each its final metadata."""
        while len(self.levels) > depth:
            e, above = self.levels.pop()
            parent = os.open("..", self.FLAGS, dir_fd=self.here)
            found = os.fstat(parent)
            need((found.st_dev, found.st_ino) == above, "the target was changed by another program")
            self._settle(self.here, e)
            os.close(self.here)
            self.here = parent

    def directory(self, e: Entry) -> None:
        state = os.fstat(self.here)
        os.mkdir(e.name, 0o700, dir_fd=self.here)
        inner = os.open(e.name, self.FLAGS, dir_fd=self.here)
        self.levels.append((e, (state.st_dev, state.st_ino)))
        os.close(self.here)
        self.here = inner

    def file(self, e: Entry, parts: Iterable[tuple[int, bytes | memoryview]]) -> None:
        fd = os.open(e.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.here)
        try:
            with os.fdopen(fd, "wb") as file:
                for at, data in parts:
                    file.seek(at)
                    file.write(data)
                file.truncate(e.size)
                self._settle(fd, e)
        except BaseException:
            os.unlink(e.name, dir_fd=self.here)  # never half a file under its own name
            raise

    def symlink(self, e: Entry) -> None:
        os.symlink(e.target, e.name, dir_fd=self.here)
        if self.owners:
            self._try("owner", e, lambda: os.chown(e.name, e.uid, e.gid, dir_fd=self.here, follow_symlinks=False))
        self._try("time", e, lambda: os.utime(e.name, ns=(e.mtime, e.mtime), dir_fd=self.here, follow_symlinks=False))
        if e.attributes:
            self.report.warn(f"attributes of the symbolic link {shown(e.name)} were not set")

    def keep(self, e: Entry) -> bool:
        """Hold file `e` under its number, for later hard links to need no path; False where the file system has none."""
        if self.stage < 0:
            os.mkdir(self.stage_name, 0o700, dir_fd=self.top)
            self.stage = os.open(self.stage_name, self.FLAGS, dir_fd=self.top)
        try:
            os.link(e.name, str(e.number), src_dir_fd=self.here, dst_dir_fd=self.stage, follow_symlinks=False)
        except OSError:
            return False
        return True

    def hardlink(self, e: Entry) -> bool:
        try:
            os.link(str(e.link), e.name, src_dir_fd=self.stage, dst_dir_fd=self.here, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError:
            return False
        return True

    def close(self) -> None:
        if self.stage >= 0:
            for name in os.listdir(self.stage):
                os.unlink(name, dir_fd=self.stage)
            os.rmdir(self.stage_name, dir_fd=self.top)
            os.close(self.stage)
        os.close(self.here)
        os.close(self.top)

    def _try(self, what: str, e: Entry, action: Callable[[], object]) -> None:
        try:
            action()
        except (OSError, OverflowError) as exc:
            self.report.warn(f"the {what} of {shown(e.name)} could not be set: {getattr(exc, 'strerror', exc)}")

    def _settle(self, fd: int, e: Entry) -> None:
        """Owner, attributes, mode, ACLs, time: in the order in which none undoes another."""
        if self.owners:
            self._try("owner", e, lambda: os.chown(fd, e.uid, e.gid))
        self._set_attributes(fd, e, acls=False)
        state, mode = os.fstat(fd), e.mode
        special = 0o4000 if e.kind == DIRECTORY else 0o6000
        if mode & special and not (self.setuid and (state.st_uid, state.st_gid) == (e.uid, e.gid)):
            mode &= ~special
            self.report.note("files are without their setuid or setgid bit (see --setuid; their owner must be set too)")
        self._try("mode", e, lambda: os.chmod(fd, mode))
        self._set_attributes(fd, e, acls=True)
        self._try("time", e, lambda: os.utime(fd, ns=(e.mtime, e.mtime)))

    def _set_attributes(self, fd: int, e: Entry, acls: bool) -> None:
        for name, value in e.attributes:
            if (name in ACLS) != acls:
                continue
            if hasattr(os, "setxattr"):
                self._try(f"attribute {shown(name)}", e, lambda n=name, v=value: os.setxattr(fd, n, v))  # type: ignore[misc]
            else:
                self.report.warn(f"the attribute {shown(name)} of {shown(e.name)} was not set: not possible on this system")


# --- commands -------------------------------------------------------------------------------------------------------------


def extract(index: Index, args: argparse.Namespace, report: Report) -> None:
    selection, found = Selection(args.path), 0
    linked: dict[int, tuple[Entry | None, str]] = {}  # files that hard links name, by number; "unmade", "kept", "alone"
    for depth, e in index.entries():  # all of the index is checked before anything is written
        found += selection.of(depth, e.name) == Selection.INSIDE
        if e.kind == HARDLINK:
            linked[e.link] = (None, "unmade")
    need(found, f"nothing in the snapshot is at {shown(args.path)}")
    data, tree = Data(index, report), Tree(args.target, os.geteuid() == 0 and not args.no_owners, args.setuid, report)

    def write(e: Entry) -> None:
        state = "unmade"
        try:
            tree.file(e, data.parts(e))
            state = "alone" if e.number not in linked or not tree.keep(e) else "kept"
            report.note("files were changing while they were saved (torn)", e.flags & TORN)
        except Refused as exc:
            need(args.keep_going, f"{exc} (extraction stopped; --keep-going leaves out what is damaged)")
            report.warn(f"left out {shown(e.name)}: {exc}")
        if e.number in linked:
            linked[e.number] = (e, state)

    try:
        for depth, e in index.entries():
            state = selection.of(depth, e.name)
            if e.kind == FILE and e.number in linked:
                linked[e.number] = (e, "unmade")
            if state == Selection.OUTSIDE or (state == Selection.ABOVE and e.kind != DIRECTORY):
                continue
            tree.ascend(depth)
            if e.kind == DIRECTORY:
                tree.directory(e)
            elif e.kind == FILE:
                write(e)
            elif e.kind == SYMLINK:
                tree.symlink(e)
            elif e.kind == ABSENT:
                report.note("files have a name in the snapshot but could not be saved (see show --files)")
            else:
                first, made = linked[e.link]
                if first is not None and not (made == "kept" and tree.hardlink(e)):
                    write(first._replace(name=e.name))
                    if made != "unmade":
                        report.warn(f"{shown(e.name)} could not be hard-linked and is a file of its own")
        tree.ascend(0)
    finally:
        tree.close()
    if os.geteuid() != 0 and not args.no_owners:
        report.note("entries belong to whoever extracted them (only root can set owners)", found)
    print(f"extracted {found} entries, {human(report.bytes)} of data, to {shown(args.target)}")


def check(index: Index, manifest: dict[str, Any], report: Report) -> None:
    data, entries, size = Data(index, report), 0, 0
    data.check_packs()
    for _, e in index.entries():
        entries, size = entries + 1, size + e.size
        if e.content == BUNDLED or e.flags & SPARSE:
            for _ in data.parts(e):
                pass
    for i, seen in enumerate(data.seen):
        if not seen and index.pack[i] != NONE:
            report.progress(len(data.load(i)))
    for name, count in (("entries", entries), ("raw_bytes", size)):
        if manifest.get(name) != count:
            report.warn(f"the manifest says {name} {manifest.get(name)}, the index holds {count}")
    problems(index)
    print(f"{index.snapshot}: {len(index.packs)} packs, {len(index.raw)} chunks, {entries} entries, {human(size)}: all sound")


def problems(index: Index) -> list[str]:
    """What could not be saved, a line each."""
    lines: list[str] = []
    try:
        for s, data in index.read(4):
            found = json.loads(data)
            lines += [shown(b64(p["path"])) + f": {shown(p['kind'])} {shown(str(p['detail']))}" for p in found]
            need(len(lines) == s.rows, "the index is not valid: its problems are not as many as it says")
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        raise Refused(f"the index is not valid: its problems section is damaged ({exc!r})") from None
    return lines


def files(index: Index) -> Iterator[str]:
    """One line an entry: type and mode, owner, size, time, path and where a link leads."""
    linked = {e.link: b"" for _, e in index.entries() if e.kind == HARDLINK}
    path: list[bytes] = []
    for depth, e in index.entries():
        path[depth:] = [e.name]
        if e.number in linked:
            linked[e.number] = b"/".join(path)
        seconds, nanoseconds = divmod(e.mtime, 10**9)
        try:
            when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"
        except (OverflowError, OSError, ValueError):
            when = f"@{seconds}.{nanoseconds:09d}"
        leads = " -> " + shown(e.target) if e.kind == SYMLINK else " == " + shown(linked[e.link]) if e.kind == HARDLINK else ""
        yield f"{'dflh?'[e.kind]}{e.mode:05o} {e.uid}:{e.gid} {e.size:>13} {when} {shown(b'/'.join(path))}{leads}"


def show(repo: Repository, manifest: dict[str, Any], with_files: bool) -> None:
    public_part = {k: v if k != "keyring" else sorted(v) for k, v in manifest.items() if k != "private"}
    print(json.dumps({**public_part, "private": repo.private(manifest)}, indent=2))
    if with_files:
        index = Index(repo, manifest)
        for line in files(index):
            print(line)
        for line in problems(index):
            print(f"problem: {line}")


def list_snapshots(repo: Repository, report: Report) -> None:
    for snapshot in repo.snapshots():
        try:
            m = repo.manifest(snapshot)
            line = [snapshot, str(m["created"]), f"{m['files']} files", f"{human(m['raw_bytes'])} raw"]
            line.append(f"{human(m['stored_bytes'])} stored")
            private = repo.private(m)
            if private is not None:
                line += [str(private.get("name")), str(private.get("machine")), " ".join(private.get("roots", []))]
        except (Refused, KeyError, TypeError, ValueError) as exc:
            report.warn(f"{snapshot}: {exc}")
            continue
        print(shown("  ".join(line)))


def recovery_keys(args: argparse.Namespace) -> list[bytes]:
    """From the file, the environment, or a prompt where the command cannot do without."""
    text = os.environ.get("TORPOR_RECOVERY_KEY", "")
    if args.recovery_key_file:
        text = read_object("", args.recovery_key_file, MIB).decode("ascii", "replace")
    elif not text and (args.command in ("extract", "check") or getattr(args, "files", False)):
        try:
            if read_config(args.folder, None)["encryption"] == "none":
                return []
        except Refused:
            pass  # told once the keys are there to go on with
        try:
            text = getpass.getpass("recovery key: ")
        except EOFError:
            raise Refused("the recovery key is needed: give --recovery-key-file or TORPOR_RECOVERY_KEY") from None
    return [parse_recovery_key(line) for line in text.splitlines() if line.strip()]


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="unfreeze", description="Lists, checks and extracts torpor snapshots in a folder.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("folder", metavar="FOLDER", help="where config.json, keys/, snapshots/ and packs/ lie")
    common.add_argument("--recovery-key-file", metavar="FILE", help="else TORPOR_RECOVERY_KEY, else a prompt")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", parents=[common], help="the snapshots in the folder")
    one = argparse.ArgumentParser(add_help=False, parents=[common])
    one.add_argument("snapshot", metavar="SNAPSHOT", help="an id, the unique start of one, or latest")
    commands.add_parser("check", parents=[one], help="open and check everything, write nothing")
    command = commands.add_parser("show", parents=[one], help="one snapshot's manifest")
    command.add_argument("--files", action="store_true", help="list the files as well")
    command = commands.add_parser("extract", parents=[one], help="restore into an empty or new folder")
    command.add_argument("target", metavar="TARGET")
    command.add_argument("--path", default="", metavar="PREFIX", help="only this file or directory: ROOT/sub/path")
    command.add_argument("--no-owners", action="store_true", help="leave owners alone even as root")
    command.add_argument("--setuid", action="store_true", help="restore setuid and setgid bits")
    command.add_argument("--keep-going", action="store_true", help="leave out damaged files and go on")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args, report = arguments(argv), Report()
    try:
        repo = Repository(args.folder, recovery_keys(args), report)
        if args.command == "list":
            list_snapshots(repo, report)
        else:
            snapshot = repo.find(args.snapshot)
            manifest = repo.manifest(snapshot)
            if args.command == "show":
                show(repo, manifest, args.files)
            elif args.command == "check":
                check(Index(repo, manifest), manifest, report)
            else:
                extract(Index(repo, manifest), args, report)
        sys.stdout.flush()
    except (Refused, OSError) as exc:
        print(f"unfreeze: error: {exc}", file=sys.stderr)
        return 1
    return report.finish()


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
