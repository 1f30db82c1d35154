"""Names of objects and ids, made and checked."""

from __future__ import annotations

import re

from torpor.clock import stamp
from torpor.errors import Malformed

CONFIG = "config.json"
SNAPSHOTS = "snapshots/"
RECEIPTS = "receipts/"
CLAIMS = "claims/"
MARKS = "marks/"
REMOVED = "removed/"
COPIES = "copies/"
PACKS = "packs/"
KEYS = "keys/"

_SNAPSHOT = re.compile(r"[0-9]{8}T[0-9]{9}-[0-9a-f]{8}\Z")
_WRITER = re.compile(r"[0-9]{8}T[0-9]{9}-[0-9a-f]{8}/[0-9a-f]{8}\Z")
_PACK = re.compile(r"[0-9]{8}T[0-9]{9}-[0-9a-f]{8}/[0-9a-f]{8}-(0|[1-9][0-9]{0,8})\Z")
_INDEX = re.compile(r"[0-9]{8}T[0-9]{9}-[0-9a-f]{8}/index-[0-9a-f]{8}\Z")
_HEX32 = re.compile(r"[0-9a-f]{32}\Z")


def snapshot_id(at: float, random: bytes) -> str:
    """A new snapshot id for time `at` (seconds) and 4 random bytes."""
    return f"{stamp(at)}-{random.hex()[:8]}"


def is_snapshot_id(text: str) -> bool:
    return bool(_SNAPSHOT.match(text))


def is_pack(name: str) -> bool:
    return bool(_PACK.match(name))


def is_index(name: str) -> bool:
    return bool(_INDEX.match(name))


def is_hex32(text: str) -> bool:
    return bool(_HEX32.match(text))


def writer(snapshot: str, attempt: str) -> str:
    return f"{snapshot}/{attempt}"


def is_writer(name: str) -> bool:
    return bool(_WRITER.match(name))


def pack(snapshot: str, attempt: str, n: int) -> str:
    return f"{snapshot}/{attempt}-{n}"


def pack_number(name: str) -> int | None:
    """Which pack of its attempt it is, from 0; None for the name of anything else."""
    return int(name[name.rindex("-") + 1 :]) if is_pack(name) else None


def index(snapshot: str, attempt: str) -> str:
    return f"{snapshot}/index-{attempt}"


def writer_of(name: str) -> str:
    """The writer of a pack or an index, from its name without `packs/`."""
    if is_pack(name):
        return name[: name.rindex("-")]
    if is_index(name):
        snapshot, rest = name.split("/")
        return f"{snapshot}/{rest[6:]}"
    raise Malformed(f"{name!r} is not the name of a pack or an index.")


def snapshot_of(name: str) -> str:
    """The snapshot under whose prefix a pack or an index lies."""
    return name.split("/", 1)[0]


def manifest(snapshot: str) -> str:
    return f"{SNAPSHOTS}{snapshot}.json"


def claim(snapshot: str) -> str:
    return f"{CLAIMS}{snapshot}.json"


def removed(snapshot: str) -> str:
    return f"{REMOVED}{snapshot}.json"


def receipt(snapshot: str, at: float) -> str:
    return f"{RECEIPTS}{snapshot}/{stamp(at)}.json"


def copy(snapshot: str, at: float) -> str:
    return f"{COPIES}{snapshot}/{stamp(at)}.json"


def mark(at: float, random: bytes) -> str:
    return f"{MARKS}{stamp(at)}-{random.hex()[:8]}.json"
