"""What a snapshot's bytes are spent on: sizes before and after, by a kind that the caller gives each path."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from torpor.control import catalogue
from torpor.control.commit import data_keys, fetch_index, open_index
from torpor.control.repository import Repository
from torpor.format import entries
from torpor.format.chunks import ChunkList
from torpor.format.entries import Bundled, Chunked, Content
from torpor.format.version import NONE


class Kind(msgspec.Struct):
    """Files of one kind. `stored_bytes`: of bytes that several files share, the first has them all; a bundle's go by size."""

    files: int = 0
    raw_bytes: int = 0
    stored_bytes: float = 0.0


def by_kind(repository: Repository, snapshot_id: str, kind_of: Callable[[bytes], str]) -> dict[str, Kind]:
    """Read a snapshot's index and add up its files. `kind_of` gets a path relative to its root."""
    manifest = catalogue.load(repository, snapshot_id).manifest
    found: dict[str, Kind] = {}
    folders: dict[int, bytes] = {}
    with fetch_index(repository, manifest.index) as spool:
        index = open_index(repository, spool, manifest.index, data_keys(repository, manifest.keyring), manifest.snapshot)
        counted = bytearray(len(index.chunks))
        for block in index.checked_blocks():
            for row, type in enumerate(block.type):
                above = folders.get(block.parent[row])
                path = b"" if block.parent[row] == NONE else above + block.names[row] if above else block.names[row]
                if type == entries.DIRECTORY:
                    folders[block.base + row] = path and path + b"/"
                elif type == entries.FILE:
                    kind = found.setdefault(kind_of(path or block.names[row]), Kind())
                    kind.files += 1
                    kind.raw_bytes += block.size[row]
                    kind.stored_bytes += _stored(index.chunks, counted, block.content[row], block.size[row])
    return found


def _stored(chunks: ChunkList, counted: bytearray, content: Content, size: int) -> float:
    if isinstance(content, Bundled):
        return chunks.sealed[content.chunk] * size / chunks.raw[content.chunk]
    total = 0
    if isinstance(content, Chunked):
        for place in content.refs:
            if not counted[place]:
                counted[place] = 1
                total += chunks.sealed[place]
    return total
