"""Packs (docs/format.md §5): header, table, and what is bound into each seal."""

from __future__ import annotations

import struct

import msgspec

from torpor.errors import Malformed
from torpor.format.crypto import TAG, Sealer, pack_key
from torpor.format.version import CHUNK_MAX, FORMAT, PACK_MAX, check_version

MAGIC = b"torporPK"
HEADER = struct.Struct("<8sHBBIIIQ32s")
ROW = struct.Struct("<IIIB3x32s")
FRAME = HEADER.size + TAG  # bytes of a pack that belong to no chunk: the header, and the seal of the table
TABLE_NUMBER = 0xFFFFFFFF
CHUNKS_MAX = 65_535


class Row(msgspec.Struct, frozen=True):
    """One chunk of a pack: where it lies, how it is coded, and the id of its raw bytes."""

    offset: int
    sealed: int
    raw: int
    codec: int
    id: bytes


class Header(msgspec.Struct, frozen=True):
    kind: int
    chunks: int
    table_offset: int
    table_sealed: int
    salt: bytes

    @property
    def size(self) -> int:
        """Bytes of the whole object."""
        return self.table_offset + self.table_sealed


def chunk_aad_prefix(repository: str, pack: str) -> bytes:
    """The part of a chunk's associated data that all chunks of a pack share."""
    return b"torpor chunk v1\0" + struct.pack("<H", FORMAT) + bytes.fromhex(repository) + pack.encode() + b"\0"


def chunk_aad(prefix: bytes, number: int, codec: int, raw: int) -> bytes:
    return prefix + struct.pack("<IBI", number, codec, raw)


def table_aad(repository: str, pack: str, header: bytes) -> bytes:
    return b"torpor table v1\0" + bytes.fromhex(repository) + pack.encode() + b"\0" + header


def encode_ends(repository: str, pack: str, key: bytes, kind: int, salt: bytes, rows: list[Row]) -> tuple[bytes, bytes]:
    """Header and sealed table of a pack whose chunks fill the space between them."""
    body = HEADER.size + sum(row.sealed for row in rows)
    sealed = len(rows) * ROW.size + TAG
    header = HEADER.pack(MAGIC, FORMAT, kind, 0, len(rows), body, sealed, 0, salt)
    table = b"".join(ROW.pack(row.offset, row.sealed, row.raw, row.codec, row.id) for row in rows)
    return header, Sealer(key).seal(TABLE_NUMBER, table, table_aad(repository, pack, header))


def parse_header(data: bytes | memoryview, pack: str) -> Header:
    """Read and check the first 64 bytes."""
    if len(data) < HEADER.size:
        raise Malformed(f"Pack {pack} is shorter than its header.")
    magic, version, kind, zero, chunks, offset, sealed, zeros, salt = HEADER.unpack(data[: HEADER.size])
    if magic != MAGIC:
        raise Malformed(f"{pack} is not a pack.")
    check_version(version, f"Pack {pack}")
    if zero or zeros or version == 0 or kind not in (1, 2, 3) or not 1 <= chunks <= CHUNKS_MAX:
        raise Malformed(f"Pack {pack} has an impossible header.")
    if sealed != chunks * ROW.size + TAG or not HEADER.size < offset <= PACK_MAX:
        raise Malformed(f"Pack {pack} has an impossible table.")
    return Header(kind, chunks, offset, sealed, salt)


def open_table(data: bytes | memoryview, header: Header, repository: str, pack: str, key: bytes) -> list[Row]:
    """Open the table of a whole pack object and check that its chunks cover every byte once."""
    if len(data) != header.size:
        raise Malformed(f"Pack {pack} has {len(data)} bytes; its header says {header.size}.")
    aad = table_aad(repository, pack, bytes(data[: HEADER.size]))
    table = Sealer(key).open(TABLE_NUMBER, data[header.table_offset :], aad, f"the table of pack {pack}")
    rows = [Row(*fields) for fields in ROW.iter_unpack(table)]
    at = HEADER.size
    for row in sorted(rows, key=lambda row: row.offset):
        if row.offset != at or not TAG < row.sealed <= CHUNK_MAX + TAG or not 1 <= row.raw <= CHUNK_MAX:
            raise Malformed(f"The chunks of pack {pack} do not cover it.")
        at += row.sealed
    if at != header.table_offset:
        raise Malformed(f"The chunks of pack {pack} do not cover it.")
    return rows


def key_of(data_key: bytes, pack: str, header: bytes | memoryview) -> bytes:
    """The pack's key, from the salt in its header."""
    return pack_key(data_key, pack, bytes(header[32:64]))
