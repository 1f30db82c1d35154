"""Where a job reads packs: the store it was granted, then copies of it, with a cache in front. One place after the other is asked.

A copy is asked when a place does not answer (after its transport has tried again), has no such object, or gave bytes that are damaged.
Nothing is believed because of where it came from: who reads checks digests and seals, and says what did not hold.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from torpor.errors import Damaged, Malformed, StorageUnavailable, TorporError
from torpor.storage.base import PACKS, Missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from torpor.storage.base import Store
    from torpor.storage.cache import Cache

CACHE = -1
GIVE_UP = 3  # failures in a row after which a place is asked last: each may have cost minutes of trying
FAILURES = (StorageUnavailable, Missing, Damaged)
SPOILED = (Damaged, Malformed)  # what bytes that are not those which were written can raise in who reads them


class Source(Protocol):
    """A place to read from: `transfer.Transfer`, or anything like it."""

    def get_into(self, name: str, start: int, out: memoryview) -> None: ...

    def close(self) -> None: ...


class StoreSource:
    """A whole store as a place: for the control side, which holds it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get_into(self, name: str, start: int, out: memoryview) -> None:
        self._store.get_into(PACKS + name, start, out)

    def close(self) -> None:
        return None  # it is its opener's


class Sources:
    """`places` in the order in which they are asked; `labels` name them in what people read. `tell` gets a warning, seldom.

    Places are known by their number; `CACHE` is the cache. All methods may be called from several threads at once.
    """

    def __init__(
        self, places: Sequence[Source], cache: Cache | None = None, labels: Sequence[str] = (), tell: Callable[[str], None] | None = None
    ) -> None:
        self._places = list(places)
        self._cache = cache
        self._labels = [*labels, *(f"copy {number}" if number else "the store" for number in range(len(labels), len(places)))]
        self._tell = tell
        self._keys: dict[str, str] = {}
        self._lock = threading.Lock()
        self._in_a_row: Counter[int] = Counter()
        self._bad: set[tuple[int, str]] = set()
        self._why: dict[int, str] = {}
        self._failed: Counter[int] = Counter()
        self._instead: Counter[int] = Counter()

    def know(self, digests: Mapping[str, str]) -> None:
        """What the cache may hold and be given: name → digest of the whole object, in hex, from where no stranger can change it."""
        self._keys.update(digests)

    def get_into(self, name: str, start: int, out: memoryview, without: AbstractSet[int] = frozenset()) -> int:
        """Fill `out` from `start` on; the place it came from. `without`: places that are not asked.

        If none can give it, the first one's error is raised.
        """
        key = self._keys.get(name) if self._cache is not None else None
        if self._cache is not None and key and CACHE not in without and self._cache.read(key, start, out):
            return CACHE
        first: TorporError | None = None
        for number in self._order(name, without):
            try:
                self._places[number].get_into(name, start, out)
            except FAILURES as error:
                first = first or error
                self._note(number, name, error)
                continue
            with self._lock:
                self._in_a_row[number] = 0
                self._instead[number] += 1
            if self._cache is not None and key:
                self._cache.keep(key, start, out)
            return number
        if first is None:
            raise Missing(f"There is nowhere left to read {name} from.")
        raise first

    def spoiled(self, name: str, place: int, error: TorporError) -> None:
        """What came from `place` is not what was written: it is asked last for that object, and the cache forgets it."""
        if self._cache is not None and (key := self._keys.get(name)):
            self._cache.drop(key)
        if place != CACHE:
            self._note(place, name, error)

    def left(self, tried: AbstractSet[int]) -> bool:
        """Whether there is another place to ask."""
        return any(number not in tried for number in range(len(self._places)))

    def notes(self) -> list[str]:
        """What people should know of what happened: sentences."""
        with self._lock:
            found = [
                f"{self._label(number)} failed {self._times(count)} while it was read: {self._why[number]}"
                for number, count in sorted(self._failed.items())
            ]
            if self._failed:
                found += [
                    f"{self._label(number)} was read instead: {self._instead[number]:,} requests."
                    for number in range(1, len(self._places))
                    if self._instead[number]
                ]
        return found + (self._cache.notes() if self._cache is not None else [])

    @property
    def cached(self) -> int:
        """Bytes that came from the cache."""
        return self._cache.hits if self._cache is not None else 0

    def close(self) -> None:
        for place in self._places:
            place.close()

    def _order(self, name: str, without: AbstractSet[int]) -> list[int]:
        with self._lock:
            return sorted(
                (number for number in range(len(self._places)) if number not in without),
                key=lambda number: ((number, name) in self._bad, self._in_a_row[number] >= GIVE_UP, number),
            )

    def _note(self, number: int, name: str, error: TorporError) -> None:
        with self._lock:
            first = number not in self._why
            self._why.setdefault(number, error.what)
            self._failed[number] += 1
            if isinstance(error, StorageUnavailable):
                self._in_a_row[number] += 1
            else:
                self._bad.add((number, name))
        if first and self._tell is not None and len(self._places) > 1:
            self._tell(f"{self._label(number)} does not give what it should: {error.what} What it lacks is read elsewhere.")

    def _label(self, number: int) -> str:
        label = self._labels[number]
        return label[:1].upper() + label[1:] if label.startswith(("the ", "copy ")) else label

    @staticmethod
    def _times(count: int) -> str:
        return "once" if count == 1 else f"{count:,} times"
