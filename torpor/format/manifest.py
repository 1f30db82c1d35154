"""What the control side writes (docs/format.md §3, §8, §9): manifests, receipts, claims, marks, removals, copies, the configuration."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from torpor.clock import parse_rfc3339
from torpor.errors import Malformed
from torpor.format import names
from torpor.format.untrusted import BROKEN
from torpor.format.version import FORMAT, check_version


class IndexRef(msgspec.Struct, frozen=True):
    """Which object is the index, and its digests. Sizes in bytes; digests SHA-256 in hex."""

    name: str
    size: int
    sha256: str
    head_size: int
    head_sha256: str


class CodecUse(msgspec.Struct):
    chunks: int = 0
    raw_bytes: int = 0
    coded_bytes: int = 0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot. Sizes in bytes, times RFC 3339, stage timings in seconds."""

    format: int = FORMAT
    snapshot: str
    lineage: str
    parent: str | None = None
    generation: int = 1
    created: str
    index: IndexRef
    keyring: dict[str, bytes]
    files: int
    directories: int
    links: int
    entries: int
    raw_bytes: int
    stored_bytes: int
    new_bytes: int
    packs: int
    chunks: int
    codecs: dict[str, CodecUse] = {}
    problems: dict[str, int] = {}
    stages: dict[str, float] = {}
    seconds: float = 0.0
    versions: dict[str, str] = {}
    private: bytes = b""

    @property
    def ratio(self) -> float:
        """Raw size over stored size."""
        return self.raw_bytes / self.stored_bytes if self.stored_bytes else 1.0


class Private(msgspec.Struct, frozen=True):
    """The sealed field of a manifest: what the operator of the bucket need not know."""

    name: str = ""
    machine: str = ""
    rental: str = ""
    roots: list[str] = []
    labels: dict[str, str] = {}


class FinalCheck(msgspec.Struct, frozen=True):
    """The host's last look before it is destroyed. `accepted` are problems the owner chose to lose."""

    time: str
    changed: int
    accepted: list[str] = []


class HostProof(msgspec.Struct, frozen=True):
    compared: bool
    rental: str
    final_check: FinalCheck


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What was proven. `time`: since when what was read is known to be there; `ended`: when a verification that was resumed ended."""

    format: int = FORMAT
    snapshot: str
    manifest_sha256: str
    time: str
    depth: str
    packs: int
    pack_bytes: int
    read_packs: list[str] | str
    files: int
    host: HostProof | None = None
    versions: dict[str, str] = {}
    ended: str | None = None


class Parent(msgspec.Struct, frozen=True):
    snapshot: str
    index: str
    head_size: int
    head_sha256: str


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    format: int = FORMAT
    snapshot: str
    lineage: str
    parents: list[Parent] = []
    continues: list[str] = []
    created: str
    expires: str


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    format: int = FORMAT
    time: str
    objects: list[str]
    bytes: int


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    format: int = FORMAT
    snapshot: str
    manifest_sha256: str
    time: str


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot was copied to the store at `url`, whole, as its manifest was then."""

    format: int = FORMAT
    snapshot: str
    manifest_sha256: str
    url: str
    time: str


class PublicKey(msgspec.Struct, frozen=True):
    id: str
    sign: bytes
    box: bytes
    created: str


class Config(msgspec.Struct, frozen=True, kw_only=True):
    format: int = FORMAT
    repository: str
    encryption: str
    created: str
    keys: list[PublicKey]


class WrappedKeys(msgspec.Struct, frozen=True, kw_only=True):
    """`keys/<key id>.json`: not signed, but authenticated by the recovery key."""

    format: int = FORMAT
    key: str
    repository: str
    salt: bytes
    wrapped: bytes


class PrivateKeys(msgspec.Struct, frozen=True):
    """Raw private keys. Never printed."""

    sign: bytes
    box: bytes
    root: bytes

    def __repr__(self) -> str:
        return "PrivateKeys(hidden)"


T = TypeVar("T", bound=msgspec.Struct)


def encode(what: msgspec.Struct) -> bytes:
    return msgspec.json.encode(what)


def decode(data: bytes, kind: type[T], what: str) -> T:
    """Parse JSON of a known kind; refuse newer formats by name, and times that are none."""
    try:
        seen = msgspec.json.decode(data, type=_Version)
        check_version(seen.format, what)
        if seen.format < 1:
            raise Malformed(f"{what} has no format version.")
        found = msgspec.json.decode(data, type=kind)
    except BROKEN as error:
        raise Malformed(f"{what} does not parse: {error}.") from None
    for time in _TIMES.intersection(found.__struct_fields__):
        text = getattr(found, time)
        if text is not None:
            _check_time(text, what)
    return found


_TIMES = frozenset(("created", "ended", "expires", "time"))


def _check_time(text: str, what: str) -> None:
    try:
        parse_rfc3339(text)
    except (ValueError, OverflowError):
        raise Malformed(f"{what} holds {text[:40]!r} where a time belongs.") from None


class _Version(msgspec.Struct):
    format: int = 0


def check_manifest(manifest: Manifest, snapshot: str) -> Manifest:
    """Agreement of a manifest with its own name and with the rules for names; `Malformed` otherwise."""
    ok = (
        manifest.snapshot == snapshot
        and names.is_index(manifest.index.name)
        and names.snapshot_of(manifest.index.name) == snapshot
        and names.is_hex32(manifest.lineage)
        and all(map(names.is_writer, manifest.keyring))
        and names.writer_of(manifest.index.name) in manifest.keyring
        and 0 < manifest.index.head_size < manifest.index.size
    )
    if not ok:
        raise Malformed(f"The manifest of {snapshot} contradicts itself or its name: it was swapped or damaged.")
    return manifest
