"""What the rows of a decoded entry section hold: columns, and an object for a row only when it is asked for."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, MutableSequence
from itertools import accumulate, compress
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

DIRECTORY, FILE, SYMLINK, HARDLINK, ABSENT = 0, 1, 2, 3, 4
EMPTY, BUNDLED, CHUNKED = 0, 1, 2
ID_COLUMN = 13  # the column of bundled files' ids in a section


class Bundled(NamedTuple):
    """A small file: `size` bytes at `offset` of chunk number `chunk` of the chunk list; `id` of its own bytes."""

    chunk: int
    offset: int
    id: bytes


class Chunked(NamedTuple):
    """A large file: chunks of the chunk list, one after the other."""

    chunker: int
    refs: array[int]


Content = Bundled | Chunked | bytes | int | None

# Codes of rows: the type, and above it the kind of a file's content.
IS_DIRECTORY, IS_EMPTY, IS_SYMLINK, IS_HARDLINK, IS_ABSENT = DIRECTORY, FILE, SYMLINK, HARDLINK, ABSENT
IS_BUNDLED, IS_CHUNKED = FILE | BUNDLED << 4, FILE | CHUNKED << 4
_CODES = bytes((IS_DIRECTORY, IS_EMPTY, IS_SYMLINK, IS_HARDLINK, IS_ABSENT, IS_BUNDLED, IS_CHUNKED))
_LOW = bytes(range(16))


def codes(types: bytes, kinds: bytes) -> bytes | None:
    """The code of each row; None if one is impossible."""
    if types.translate(None, _LOW) or kinds.translate(None, _LOW):
        return None
    found = (int.from_bytes(types, "little") | int.from_bytes(kinds, "little") << 4).to_bytes(len(types), "little")
    return None if found.translate(None, _CODES) else found


def first_is_file(types: bytes, kinds: bytes) -> bool:
    """Whether the first row that is impossible is a file."""
    return next(type for type, kind in zip(types, kinds, strict=True) if codes(bytes((type,)), bytes((kind,))) is None) == FILE


def mask(*wanted: int) -> bytes:
    """A table for `bytes.translate`: codes become 1 if they are wanted, else 0."""
    return bytes(code in wanted for code in range(256))


FILES = mask(IS_EMPTY, IS_BUNDLED, IS_CHUNKED)
_MASKS = {code: mask(code) for code in _CODES}


def select(items: Iterable[T], codes: bytes, code: int) -> Iterator[T]:
    """The items of rows of this code."""
    return compress(items, codes.translate(_MASKS[code]))


class Contents(MutableSequence[Content]):
    """`contents[row]`, or all in order; it can't be changed. The columns hold one item for each row that has such content, in order.

    `codes`: see above; `b_chunk`, `b_offset` of bundled files (their ids: `ids`); `c_count`, `c_chunker`, `c_refs` of large
    ones; `targets` of symbolic links; `links` of hard links. `source`: the section's bytes, and where in it each column begins.
    """

    __slots__ = (
        "_places", "_ranks", "_starts", "b_chunk", "b_offset", "c_chunker", "c_count", "c_refs", "codes", "links", "source",
        "targets",
    )  # fmt: skip

    def __init__(
        self, codes: bytes, b_chunk: array[int], b_offset: array[int], c_count: array[int], c_chunker: array[int],
        c_refs: array[int], targets: list[bytes], links: array[int], source: tuple[bytes, list[int]],
    ) -> None:  # fmt: skip
        self.codes = codes
        self.b_chunk, self.b_offset = b_chunk, b_offset
        self.c_count, self.c_chunker, self.c_refs = c_count, c_chunker, c_refs
        self.targets = targets
        self.links = links
        self.source = source
        self._ranks: array[int] | None = None
        self._starts: list[int] | None = None
        self._places: dict[int, array[int]] = {}

    def rows(self, code: int) -> array[int]:
        """The rows of this code."""
        found = self._places.get(code)
        if found is None:
            found = self._places[code] = array("I", select(range(len(self.codes)), self.codes, code))
        return found

    @property
    def ranks(self) -> array[int]:
        """By row: how many bundled files come before it."""
        if self._ranks is None:
            self._ranks = array("I", accumulate(self.codes.translate(_MASKS[IS_BUNDLED]), initial=0))
        return self._ranks

    def ids(self, ranks: Iterable[int]) -> list[bytes]:
        """The ids of bundled files, by their ranks."""
        data, starts = self.source
        start = starts[ID_COLUMN]
        return [data[start + 32 * rank : start + 32 * rank + 32] for rank in ranks]

    def chunked(self, rank: int) -> Chunked:
        """The content of a large file, by its rank among those."""
        if self._starts is None:
            self._starts = [0, *accumulate(self.c_count)]
        return Chunked(self.c_chunker[rank], self.c_refs[self._starts[rank] : self._starts[rank + 1]])

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self.codes)))]
        code = self.codes[row]
        if row < 0:
            row += len(self.codes)
        if code == IS_BUNDLED:
            rank = (self._ranks or self.ranks)[row]
            data, starts = self.source
            at = starts[ID_COLUMN] + 32 * rank
            return Bundled(self.b_chunk[rank], self.b_offset[rank], data[at : at + 32])
        if code in (IS_DIRECTORY, IS_EMPTY, IS_ABSENT):
            return None
        rank = bisect_left(self.rows(code), row)
        return self.chunked(rank) if code == IS_CHUNKED else self.targets[rank] if code == IS_SYMLINK else self.links[rank]

    def __iter__(self) -> Iterator[Content]:
        data, starts = self.source
        start = starts[ID_COLUMN]
        ids = (data[at : at + 32] for at in range(start, start + 32 * len(self.b_chunk), 32))
        bundled = map(Bundled, self.b_chunk, self.b_offset, ids)
        chunked = map(self.chunked, range(len(self.c_count)))
        targets, links = iter(self.targets), iter(self.links)
        for code in self.codes:
            if code == IS_BUNDLED:
                yield next(bundled)
            elif code == IS_CHUNKED:
                yield next(chunked)
            elif code == IS_SYMLINK:
                yield next(targets)
            elif code == IS_HARDLINK:
                yield next(links)
            else:
                yield None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list | Contents) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def _refuse(self, *_: object) -> None:
        raise TypeError("the contents of a decoded block can't be changed")

    __setitem__ = __delitem__ = insert = _refuse
