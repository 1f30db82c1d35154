"""What differs between two snapshots: a merge join over their indexes, in flat memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from torpor.control.listing import Item, items, place_of
from torpor.format import entries
from torpor.format.chunks import ChunkList
from torpor.format.meta import Root
from torpor.workspace.indexfile import IndexFile

Kind = Literal["added", "removed", "changed", "metadata"]


class Change(NamedTuple):
    """One path that differs. `changed`: its bytes, its type or where it points to; `metadata`: only owner, permissions, time, attributes.

    `what` is its type now (of a removed one, before); sizes in bytes, 0 on the side where it is not.
    """

    kind: Kind
    path: bytes
    what: str
    size_before: int
    size_after: int


def differences(before: IndexFile, after: IndexFile, *, same_lineage: bool) -> Iterator[Change]:
    """Every path that differs, root by root, in tree order.

    Ids of one lineage alone can be compared; between two of them (`same_lineage` false), files of one size and mtime count as equal.
    """
    compare = _Compare(before, after, same_lineage)
    for left, right in _pairs(before.meta.roots, after.meta.roots):
        yield from compare.root(left, right)


def _pairs(before: list[Root], after: list[Root]) -> list[tuple[int | None, int | None]]:
    """Which root of one snapshot is which of the other: by path, else by name, else what is left over if that is one each."""
    left, right = dict(enumerate(before)), dict(enumerate(after))
    pairs: list[tuple[int, int]] = []

    def take(a: int, b: int) -> None:
        pairs.append((a, b))
        del left[a], right[b]

    for a, root in enumerate(before):
        for b in [b for b, other in right.items() if other.path == root.path][:1]:
            take(a, b)
    for a, root in list(left.items()):
        for b in [b for b, other in right.items() if other.name == root.name][:1]:
            take(a, b)
    if len(left) == len(right) == 1:
        take(next(iter(left)), next(iter(right)))
    return [*sorted(pairs), *((a, None) for a in left), *((None, b) for b in right)]


class _Compare:
    def __init__(self, before: IndexFile, after: IndexFile, ids: bool) -> None:
        self._before = before
        self._after = after
        self._ids = ids

    def root(self, left: int | None, right: int | None) -> Iterator[Change]:
        """Changes of one pair of roots."""
        olds = self._items(self._before, left)
        news = self._items(self._after, right)
        old, new = next(olds, None), next(news, None)
        while old is not None or new is not None:
            if new is None or (old is not None and old.key < new.key):
                yield from _one("removed", old)
                old = next(olds, None)
            elif old is None or new.key < old.key:
                yield from _one("added", new)
                new = next(news, None)
            else:
                kind = self._kind(old, new)
                if kind is not None:
                    yield Change(kind, new.path, new.kind, _size(old), _size(new))
                old, new = next(olds, None), next(news, None)

    @staticmethod
    def _items(index: IndexFile, root: int | None) -> Iterator[Item]:
        return (item for item in items(index) if item.root == root) if root is not None else iter(())

    def _kind(self, old: Item, new: Item) -> Kind | None:
        a, b = old.block, new.block
        if a.type[old.row] != b.type[new.row] or not self._same_content(old, new):
            return "changed"
        same = (
            a.mode[old.row] == b.mode[new.row]
            and a.uid[old.row] == b.uid[new.row]
            and a.gid[old.row] == b.gid[new.row]
            and (a.mtime[old.row] == b.mtime[new.row] or new.kind == "directory")  # a directory's follows from its entries
            and a.attributes.get(old.row) == b.attributes.get(new.row)
        )
        return None if same else "metadata"

    def _same_content(self, old: Item, new: Item) -> bool:
        a, b = old.block, new.block
        one, other = a.content[old.row], b.content[new.row]
        if isinstance(one, int) and isinstance(other, int):
            return place_of(self._before, one) == place_of(self._after, other)
        if new.kind != "file":
            return one == other
        if a.size[old.row] != b.size[new.row]:
            return False
        if not self._ids:
            return a.mtime[old.row] == b.mtime[new.row]
        if isinstance(one, entries.Bundled) and isinstance(other, entries.Bundled):
            return one.id == other.id
        if isinstance(one, entries.Chunked) and isinstance(other, entries.Chunked):
            return _same_chunks(one, self._before.chunks, other, self._after.chunks)
        return one is None and other is None


def _same_chunks(one: entries.Chunked, ours: ChunkList, other: entries.Chunked, theirs: ChunkList) -> bool:
    return len(one.refs) == len(other.refs) and all(
        ours.raw[a] == theirs.raw[b] and ours.is_hole(a) == theirs.is_hole(b) and ours.id(a) == theirs.id(b)
        for a, b in zip(one.refs, other.refs, strict=True)
    )


def _size(item: Item) -> int:
    return item.block.size[item.row]


def _one(kind: Literal["added", "removed"], item: Item | None) -> Iterator[Change]:
    if item is not None and item.kind != "absent":
        size = _size(item)
        yield Change(kind, item.path, item.kind, size if kind == "removed" else 0, size if kind == "added" else 0)
