"""Numbers of the format (docs/format.md). Ids are never reused."""

from __future__ import annotations

from torpor.errors import UnknownVersion

FORMAT = 1

CHUNK_MAX = 4 * 1024 * 1024  # raw bytes of a chunk
PACK_MAX = 64 * 1024 * 1024  # bytes of a pack object
PACK_TARGET = 32 * 1024 * 1024  # a writer closes a pack here
SMALL_FILE = 1024 * 1024  # files below go into bundles
ROWS_MAX = 65_536  # rows of a section
SECTION_MAX = 64 * 1024 * 1024  # raw bytes of a section
SEALED_MAX = 65 * 1024 * 1024  # sealed bytes of a section: its zstd frame and the tag
HOLE_MAX = 1 << 30  # bytes one hole row stands for
SIZE_MAX = (1 << 63) - 1  # bytes of a file, and of all files of a snapshot
FREE_ROWS = 1 << 20  # rows of the chunk list that an index of any size may have; holes are small when compressed
WINDOW_LOG_MAX = 23  # zstd window of 8 MiB

NONE = 0xFFFFFFFF  # "no pack", "no parent"

CODEC_RAW = 0
CODEC_ZSTD = 1
CODEC_LZ4 = 2
CODEC_PLANES = 3
CODEC_NVANS = 4  # reserved
CODEC_HOLE = 255  # never written: holes are rows without a pack

CLASS_CRITICAL = 1
CLASS_BUNDLE = 2
CLASS_LARGE = 3


def check_version(found: int, what: str) -> None:
    """Refuse what a newer torpor wrote."""
    if found > FORMAT:
        raise UnknownVersion(
            f"{what} has format version {found}; this torpor reads up to {FORMAT}.",
            safe="Nothing was changed.",
            remedy="Install a newer torpor.",
        )
