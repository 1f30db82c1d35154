"""The entries of a snapshot, one by one, read from its index: the catalogue of one snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torpor.control.catalogue import Snapshot
from torpor.control.commit import data_keys, fetch_index, open_index
from torpor.control.repository import Repository
from torpor.format import entries
from torpor.format.entries import EntryBlock
from torpor.format.version import NONE
from torpor.workspace.indexfile import IndexFile

KINDS = {
    entries.DIRECTORY: "directory", entries.FILE: "file", entries.SYMLINK: "link", entries.HARDLINK: "hardlink", entries.ABSENT: "absent",
}  # fmt: skip


class Item(NamedTuple):
    """One entry. `path` is where it was saved from; `key` orders the entries of one root as the index does."""

    root: int
    path: bytes
    key: bytes
    block: EntryBlock
    row: int

    @property
    def kind(self) -> str:
        return KINDS[self.block.type[self.row]]


@contextmanager
def opened(repository: Repository, snapshot: Snapshot) -> Iterator[IndexFile]:
    """A snapshot's index, fetched to a nameless file, its digest checked."""
    ref = snapshot.manifest.index
    with fetch_index(repository, ref) as spool:
        yield open_index(repository, spool, ref, data_keys(repository, snapshot.manifest.keyring), snapshot.id)


def items(index: IndexFile) -> Iterator[Item]:
    """Every entry in tree order, checked as it streams. Raises `Malformed`."""
    root = -1
    above: list[tuple[int, bytes, bytes]] = []  # open directories: entry number, path, key
    for block in index.checked_blocks():
        for row, kind in enumerate(block.type):
            number = block.base + row
            parent = block.parent[row]
            if parent == NONE:
                root += 1
                above.clear()
                path, key = index.meta.roots[root].path, b""
            else:
                while above[-1][0] != parent:
                    above.pop()
                name = block.names[row]
                path, key = above[-1][1].rstrip(b"/") + b"/" + name, above[-1][2] + b"\0" + name
            if kind == entries.DIRECTORY:
                above.append((number, path, key))
            yield Item(root, path, key, block, row)


def place_of(index: IndexFile, number: int) -> bytes:
    """Where an entry lies below its root, by its number."""
    parts: list[bytes] = []
    while True:
        block, row = index.at(number)
        if block.parent[row] == NONE:
            return b"/".join(reversed(parts))
        parts.append(block.names[row])
        number = block.parent[row]
