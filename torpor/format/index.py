"""The index object (docs/format.md §7): clear head with the pack list, then sealed sections."""

from __future__ import annotations

import struct

import msgspec

from torpor.errors import Damaged, Malformed
from torpor.format import names, zstd
from torpor.format.crypto import TAG, Sealer
from torpor.format.version import FORMAT, FREE_ROWS, PACK_MAX, ROWS_MAX, SEALED_MAX, SECTION_MAX, check_version

MAGIC = b"torporIX"
HEAD = struct.Struct("<8sHHIIIII")
SECTION = struct.Struct("<B3xIIIQ")
META, CHUNKS, ENTRIES, PROBLEMS = 1, 2, 3, 4
HEAD_MAX = 1 << 30
JSON_MAX = 16 * 1024 * 1024

DIGESTS = {"none": 0, "md5": 1, "sha256": 2, "sha1": 3, "crc64nvme": 4}


class Section(msgspec.Struct, frozen=True):
    kind: int
    rows: int
    sealed: int
    raw: int
    offset: int = 0


class Pack(msgspec.Struct, frozen=True):
    """A pack that the index names. `digest` is the store's own, of kind `digest_kind`; empty if it has none."""

    name: str
    size: int
    blake3: bytes
    salt: bytes
    digest_kind: int = 0
    digest: bytes = b""


class Head(msgspec.Struct):
    size: int
    sections: list[Section]
    packs: list[Pack] = msgspec.field(default_factory=list)

    @property
    def total(self) -> int:
        """Bytes of the whole object."""
        return self.size + sum(section.sealed for section in self.sections)

    def of_kind(self, kind: int) -> list[int]:
        return [number for number, section in enumerate(self.sections) if section.kind == kind]


def section_aad(repository: str, writer: str, number: int, kind: int, rows: int, raw: int) -> bytes:
    bound = b"torpor section v1\0" + bytes.fromhex(repository) + writer.encode() + b"\0"
    return bound + struct.pack("<IBII", number, kind, rows, raw)


class Sections:
    """Seals and opens sections of one index."""

    def __init__(self, repository: str, writer: str, key: bytes) -> None:
        self._repository = repository
        self._writer = writer
        self._sealer = Sealer(key)

    def seal(self, number: int, kind: int, rows: int, raw_length: int, frame: bytes) -> tuple[Section, bytes]:
        """Seal a section that was compressed to `frame` (`zstd.compress` of its bytes)."""
        if raw_length > SECTION_MAX:
            raise ValueError("a section is too long")
        aad = section_aad(self._repository, self._writer, number, kind, rows, raw_length)
        sealed = self._sealer.seal(number, frame, aad)
        return Section(kind, rows, len(sealed), raw_length), sealed

    def open(self, number: int, section: Section, sealed: bytes | memoryview) -> bytes:
        aad = section_aad(self._repository, self._writer, number, section.kind, section.rows, section.raw)
        frame = self._sealer.open(number, sealed, aad, f"section {number} of index {self._writer}")
        return zstd.decompress(frame, section.raw)


def encode_head(sections: list[Section], packs: list[Pack]) -> bytes:
    """The head of an index whose sections follow it in this order; their offsets are worked out here."""
    joined = [pack.name.encode() for pack in packs]
    blob = b"".join(joined)
    size = HEAD.size + SECTION.size * len(sections) + len(blob) + len(packs) * (2 + 8 + 32 + 32 + 1 + 32)
    parts = [HEAD.pack(MAGIC, FORMAT, 0, size, len(sections), len(packs), len(blob), 0)]
    at = size
    for section in sections:
        parts.append(SECTION.pack(section.kind, section.rows, section.sealed, section.raw, at))
        at += section.sealed
    parts.append(struct.pack(f"<{len(packs)}H", *map(len, joined)))
    parts.append(blob)
    parts.append(struct.pack(f"<{len(packs)}Q", *(pack.size for pack in packs)))
    parts += (pack.blake3 for pack in packs)
    parts += (pack.salt for pack in packs)
    parts.append(bytes(pack.digest_kind for pack in packs))
    parts += (pack.digest.ljust(32, b"\0") for pack in packs)
    return b"".join(parts)


def head_size(start: bytes, name: str) -> int:
    """The head's length, from the first 32 bytes of the object."""
    if len(start) < HEAD.size or start[:8] != MAGIC:
        raise Malformed(f"{name} is not an index.")
    _, version, zero, size, _, _, _, zeros = HEAD.unpack(start[: HEAD.size])
    check_version(version, f"Index {name}")
    if version == 0 or zero or zeros or not HEAD.size <= size <= HEAD_MAX:
        raise Malformed(f"Index {name} has an impossible head.")
    return int(size)


def parse_head(data: bytes, name: str) -> Head:
    """Parse a whole head (`data` may go on behind it). Counts are bounded by its length before anything is made."""
    size = head_size(data, name)
    bad = Malformed(f"Index {name} has an impossible head.")
    _, _, _, _, n_sections, n_packs, blob_length, _ = HEAD.unpack(data[: HEAD.size])
    if size != HEAD.size + SECTION.size * n_sections + blob_length + 107 * n_packs or len(data) < size:
        raise bad
    head = Head(size, [])
    at = HEAD.size
    expected = size
    for _ in range(n_sections):
        kind, rows, sealed, raw, offset = SECTION.unpack_from(data, at)
        if (
            offset != expected
            or not TAG < sealed <= SEALED_MAX
            or raw > (JSON_MAX if kind in (META, PROBLEMS) else SECTION_MAX)
            or (kind in (CHUNKS, ENTRIES) and not 0 < rows <= ROWS_MAX)
            or (kind == META and rows != 1)
        ):
            raise bad
        head.sections.append(Section(kind, rows, sealed, raw, offset))
        expected += sealed
        at += SECTION.size
    kinds = [section.kind for section in head.sections]
    if kinds.count(META) != 1 or kinds.count(PROBLEMS) > 1 or ENTRIES not in kinds or not set(kinds) <= {1, 2, 3, 4}:
        raise bad
    if sum(section.rows for section in head.sections if section.kind == CHUNKS) > expected // 32 + FREE_ROWS:
        raise bad  # an id is 32 bytes of noise, so a smaller index holds fewer: it is made to fill memory
    lengths = struct.unpack_from(f"<{n_packs}H", data, at)
    at += 2 * n_packs
    if sum(lengths) != blob_length:
        raise bad
    name_at, at = at, at + blob_length
    sizes = struct.unpack_from(f"<{n_packs}Q", data, at)
    at += 8 * n_packs
    digests_at = at + 65 * n_packs
    seen: set[str] = set()
    for i, length in enumerate(lengths):
        try:
            pack = data[name_at : name_at + length].decode("ascii")
        except UnicodeDecodeError:
            raise bad from None
        name_at += length
        kind = data[at + 64 * n_packs + i]
        if not names.is_pack(pack) or pack in seen or not 64 < sizes[i] <= PACK_MAX or kind > 4:
            raise bad
        seen.add(pack)
        blake3 = data[at + 32 * i : at + 32 * i + 32]
        salt = data[at + 32 * (n_packs + i) : at + 32 * (n_packs + i) + 32]
        digest = data[digests_at + 32 * i : digests_at + 32 * i + 32] if kind else b""
        head.packs.append(Pack(pack, sizes[i], blake3, salt, kind, digest))
    return head


def check_digest(found: str, expected: str, what: str) -> None:
    if found != expected:
        raise Damaged(
            f"{what} is not the one its manifest names: its SHA-256 is {found[:16]}…, not {expected[:16]}….",
            safe="It was not used.",
            remedy="Run `torpor verify` on this snapshot; restore another one, or a copy.",
        )
