"""What a hostile host could put into an index: each row bends the sample of byhand.py in one way that the format forbids."""

from __future__ import annotations

from collections.abc import Callable

from tests.unit.byhand import NONE, Entry, Snapshot, b64


def entry(index: int, **values: object) -> Callable[[Snapshot], None]:
    def change(snap: Snapshot) -> None:
        for name, value in values.items():
            setattr(snap.entries[index], name, value)

    return change


def row(index: int, place: int, value: int) -> Callable[[Snapshot], None]:
    """Bend one field of a row of the chunk list."""

    def change(snap: Snapshot) -> None:
        snap.bend_rows = lambda rows: rows[index].__setitem__(place, value)

    return change


def overlap(by: int, raw: int) -> Callable[[Snapshot], None]:
    """Put chunk 3 over chunk 4, of the same pack, so many bytes further, with another raw length."""

    def change(snap: Snapshot) -> None:
        def bend(rows: list[list[object]]) -> None:
            rows[3] = [*rows[4]]
            rows[3][2:5] = [rows[4][2] + by, rows[4][3] - by, raw]  # type: ignore[operator]

        snap.bend_rows = bend
        snap.find(b"mixed").size -= 2 * (70_000 - raw)

    return change


def root_path(path: bytes) -> Callable[[Snapshot], None]:
    return lambda snap: snap.meta["roots"][0].update(path=b64(path))


def drop_last(snap: Snapshot) -> None:
    snap.entries.pop()


def too_deep(snap: Snapshot) -> None:
    """4,097 folders, the root among them."""
    chain(snap, 4096)


def chain(snap: Snapshot, length: int) -> None:
    """So many folders in folders, below the first root."""
    alone, parent = snap.entries.pop(), 0
    for _ in range(length):
        snap.entries.append(Entry(parent, b"\xff\xff", 0))
        parent = len(snap.entries) - 1
    snap.entries.append(alone)


# Entries by number: 0 work, 1 a, 2 b, 3 dir (4 four, 5 mixed, 6 two), 7 empty, 8 gone, 9 hard, 10 link, 11 old, 12 sparse,
# 13 another name of the bytes of b, 14 alone.
# Chunks: 0 bundle, 1 two, 2 four, 3 noise, 4 lz4, 5 hole, 6 old, 7 block.
HOSTILE_ENTRIES: dict[str, Callable[[Snapshot], None]] = {
    "name ..": entry(1, name=b".."),
    "name .": entry(1, name=b"."),
    "name with a slash": entry(1, name=b"a/../../../tmp/x"),
    "name with NUL": entry(1, name=b"a\0b"),
    "empty name": entry(1, name=b""),
    "name too long for any file system": entry(13, name=b"\xff" * 256),
    "root named ..": entry(0, name=b".."),
    "root that meta does not name": entry(0, name=b"other"),
    "root of another kind": entry(14, kind=0, size=0, bundled=None),
    "too many roots": entry(7, parent=NONE),
    "a root missing": drop_last,
    "names out of order": entry(2, name=b"0"),
    "a name twice": entry(2, name=b"a"),
    "parent is a file": entry(2, parent=1),
    "parent comes later": entry(1, parent=3),
    "parent is closed": entry(9, parent=3),
    "parent is a symbolic link": entry(11, parent=10),
    "parent is nowhere": entry(11, parent=1000),
    "parent is a root that is a file": lambda snap: snap.entries.append(Entry(14, b"x")),
    "too deep": too_deep,
    "hard link to a later file": entry(9, link=11),
    "hard link to itself": entry(9, link=9),
    "hard link to a directory": entry(9, link=3),
    "hard link to an absent file": entry(9, link=8),
    "hard link to nowhere": entry(9, link=NONE),
    "unknown flag": entry(7, flags=8),
    "unknown type": entry(7, kind=5),
    "impossible permissions": entry(7, mode=0o10644),
    "directory with a size": entry(3, size=1),
    "directory with content": entry(3, refs=[3]),
    "symbolic link with content": entry(10, size=70_000, refs=[3]),
    "absent file with content": entry(8, size=5, refs=[3]),
    "size without content": entry(7, size=1),
    "content without size": entry(11, size=0),
    "bundled file outside its chunk": entry(1, bundled=(0, 10_000, bytes(32))),
    "bundled file in no chunk": entry(1, bundled=(8, 0, bytes(32))),
    "bundled file in a hole": entry(1, bundled=(5, 0, bytes(32))),
    "reference to no chunk": entry(11, refs=[8]),
    "chunks short of the size": entry(11, size=10_000),
    "extents that touch": entry(12, extents=[(0, 10), (10, 10)]),
    "extents in disorder": entry(12, extents=[(100, 10), (0, 10)]),
    "extent beyond the size": entry(12, extents=[(0, 1 << 40)]),
    "extent that wraps round": entry(12, extents=[(1 << 63, (1 << 63) + 5)]),
    "empty extent": entry(12, extents=[(5, 0)]),
    "sparse directory": entry(3, flags=2),
    "attribute that gives rights": entry(1, attributes=[(b"security.capability", b"x")]),
    "attribute without a name": entry(1, attributes=[(b"user.", b"x")]),
    "attribute with NUL": entry(1, attributes=[(b"user.a\0b", b"x")]),
    "attribute that is cut off": entry(1, cut=1),
    "empty link target": entry(10, target=b""),
    "link target too long for any file system": entry(10, target=b"a" * 4096),
    "link target with NUL": entry(10, target=b"a\0b"),
    "chunk in no pack": row(3, 0, 3),
    "chunk before its pack's data": row(3, 2, 63),
    "chunk beyond its pack": row(3, 2, 1 << 30),
    "chunk without a seal": row(3, 3, 16),
    "chunk of no bytes": row(3, 4, 0),
    "chunk of too many bytes": row(3, 4, (4 << 20) + 1),
    "chunk number too large": row(3, 1, 65535),
    "chunk that overlaps another": overlap(1, 20_000),
    "chunk that is another in disguise": overlap(0, 19_999),
    "hole with an offset": row(5, 2, 64),
    "hole too long": row(5, 4, (1 << 30) + 1),
    "path of a root leads upward": root_path(b"/srv/../desk"),
    "path of a root is relative": root_path(b"srv/desk"),
    "path of a root has an empty part": root_path(b"/srv//desk"),
    "path of a root has a dot": root_path(b"/srv/."),
    "path of a root ends in a slash": root_path(b"/srv/"),
    "path of a root holds NUL": root_path(b"/srv\0"),
}
