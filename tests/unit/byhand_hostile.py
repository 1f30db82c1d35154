"""What a hostile host could put into an index: each row bends the sample of byhand.py in one way that the format forbids."""

from __future__ import annotations

from collections.abc import Callable

from tests.unit.byhand import NONE, Snapshot


def _set(index: int, **values: object) -> Callable[[Snapshot], None]:
    def change(snap: Snapshot) -> None:
        for name, value in values.items():
            setattr(snap.entries[index], name, value)

    return change


def _row(index: int, place: int, value: int) -> Callable[[Snapshot], None]:
    """Bend one field of a row of the chunk list."""

    def change(snap: Snapshot) -> None:
        snap.bend_rows = lambda rows: rows[index].__setitem__(place, value)

    return change


def _drop_last(snap: Snapshot) -> None:
    snap.entries.pop()


# Entries by number: 0 work, 1 a, 2 b, 3 dir (4 four, 5 mixed, 6 two), 7 empty, 8 gone, 9 hard, 10 link, 11 old, 12 sparse,
# 13 another name of the bytes of b, 14 alone.
# Chunks: 0 bundle, 1 two, 2 four, 3 noise, 4 lz4, 5 hole, 6 old, 7 block.
HOSTILE_ENTRIES: dict[str, Callable[[Snapshot], None]] = {
    "name ..": _set(1, name=b".."),
    "name .": _set(1, name=b"."),
    "name with a slash": _set(1, name=b"a/../../../tmp/x"),
    "name with NUL": _set(1, name=b"a\0b"),
    "empty name": _set(1, name=b""),
    "root named ..": _set(0, name=b".."),
    "root that meta does not name": _set(0, name=b"other"),
    "root of another kind": _set(14, kind=0, size=0, bundled=None),
    "too many roots": _set(7, parent=NONE),
    "a root missing": _drop_last,
    "names out of order": _set(2, name=b"0"),
    "a name twice": _set(2, name=b"a"),
    "parent is a file": _set(2, parent=1),
    "parent comes later": _set(1, parent=3),
    "parent is closed": _set(9, parent=3),
    "parent is a symbolic link": _set(11, parent=10),
    "parent is nowhere": _set(11, parent=1000),
    "hard link to a later file": _set(9, link=11),
    "hard link to itself": _set(9, link=9),
    "hard link to a directory": _set(9, link=3),
    "hard link to an absent file": _set(9, link=8),
    "hard link to nowhere": _set(9, link=NONE),
    "unknown type": _set(7, kind=5),
    "impossible permissions": _set(7, mode=0o10644),
    "directory with a size": _set(3, size=1),
    "absent file with content": _set(8, size=5, refs=[3]),
    "size without content": _set(7, size=1),
    "content without size": _set(11, size=0),
    "bundled file outside its chunk": _set(1, bundled=(0, 10_000, bytes(32))),
    "bundled file in no chunk": _set(1, bundled=(8, 0, bytes(32))),
    "bundled file in a hole": _set(1, bundled=(5, 0, bytes(32))),
    "reference to no chunk": _set(11, refs=[8]),
    "chunks short of the size": _set(11, size=10_000),
    "extents that touch": _set(12, extents=[(0, 10), (10, 10)]),
    "extents in disorder": _set(12, extents=[(100, 10), (0, 10)]),
    "extent beyond the size": _set(12, extents=[(0, 1 << 40)]),
    "extent that wraps round": _set(12, extents=[(1 << 63, (1 << 63) + 5)]),
    "empty extent": _set(12, extents=[(5, 0)]),
    "sparse directory": _set(3, flags=2),
    "attribute that gives rights": _set(1, attributes=[(b"security.capability", b"x")]),
    "attribute that is cut off": _set(1, cut=1),
    "empty link target": _set(10, target=b""),
    "link target with NUL": _set(10, target=b"a\0b"),
    "chunk in no pack": _row(3, 0, 3),
    "chunk before its pack's data": _row(3, 2, 63),
    "chunk beyond its pack": _row(3, 2, 1 << 30),
    "chunk without a seal": _row(3, 3, 16),
    "chunk of no bytes": _row(3, 4, 0),
    "chunk of too many bytes": _row(3, 4, (4 << 20) + 1),
    "chunk number too large": _row(3, 1, 65535),
    "hole with an offset": _row(5, 2, 64),
    "hole too long": _row(5, 4, (1 << 30) + 1),
}
