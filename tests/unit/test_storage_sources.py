"""Reading from a store, its copies and a cache: who is asked when, and what people are told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torpor.errors import Damaged, StorageUnavailable, TorporError
from torpor.storage.base import Missing, Refused
from torpor.storage.cache import Cache
from torpor.storage.sources import CACHE, GIVE_UP, Sources

DATA = bytes(range(200))


class Place:
    """Gives `DATA`, or raises what it is told to; counts."""

    def __init__(self, error: TorporError | None = None) -> None:
        self.error = error
        self.asked: list[str] = []
        self.closed = False

    def get_into(self, name: str, start: int, out: memoryview) -> None:
        self.asked.append(name)
        if self.error is not None:
            raise self.error
        out[:] = DATA[start : start + len(out)]

    def close(self) -> None:
        self.closed = True


def _get(sources: Sources, name: str = "a", start: int = 10, size: int = 20, without: frozenset[int] = frozenset()) -> int:
    out = bytearray(size)
    place = sources.get_into(name, start, memoryview(out), without)
    assert out == DATA[start : start + size]
    return place


@pytest.mark.parametrize("error", [StorageUnavailable("down"), Refused("no"), Missing("gone"), Damaged("short")])
def test_the_next_place_is_asked(error: TorporError) -> None:
    told: list[str] = []
    first, second, third = Place(error), Place(error), Place()
    sources = Sources([first, second, third], None, ["file:///one"], told.append)
    assert [_get(sources) for _ in range(2)] == [2, 2]
    assert third.asked == ["a", "a"]
    assert len(told) == 2
    times = "2 times" if isinstance(error, StorageUnavailable) else "once"
    assert told[0].startswith("file:///one does not give what it should: ")
    assert sources.notes()[0] == f"file:///one failed {times} while it was read: {error.what}"
    assert sources.notes()[-1] == "Copy 2 was read instead: 2 requests."
    sources.close()
    assert all(place.closed for place in (first, second, third))


def test_the_first_error_is_raised_if_nobody_can() -> None:
    with pytest.raises(Missing, match="gone"):
        _get(Sources([Place(Missing("gone")), Place(StorageUnavailable("down"))]))


def test_other_errors_are_not_a_places() -> None:
    second = Place()
    with pytest.raises(TorporError, match="a defect"):
        _get(Sources([Place(TorporError("a defect")), second]))
    assert second.asked == []


def test_a_place_that_is_down_is_asked_last() -> None:
    first, second = Place(StorageUnavailable("down")), Place()
    sources = Sources([first, second])
    for number in range(10):
        assert _get(sources, f"pack {number}") == 1
    assert len(first.asked) == GIVE_UP
    second.error = StorageUnavailable("down too")
    first.error = None
    assert _get(sources) == 0  # and is trusted again
    assert _get(sources) == 0


def test_a_place_that_lacks_one_object_gives_the_others() -> None:
    first, second = Place(Missing("gone")), Place()
    sources = Sources([first, second])
    for _ in range(5):
        assert _get(sources, "a") == 1
    assert first.asked == ["a"]
    first.error = None
    assert _get(sources, "b") == 0


def test_what_is_spoiled_is_read_elsewhere() -> None:
    first, second = Place(), Place()
    sources = Sources([first, second])
    assert _get(sources) == 0
    sources.spoiled("a", 0, Damaged("its seal is broken"))
    assert sources.left(frozenset((0,)))
    assert not sources.left(frozenset((0, 1)))
    assert _get(sources, without=frozenset((0,))) == 1
    assert _get(sources) == 1
    assert _get(sources, "b") == 0
    with pytest.raises(Missing, match="nowhere left"):
        _get(sources, without=frozenset((0, 1)))


def test_the_cache_is_asked_first(tmp_path: Path) -> None:
    first = Place()
    sources = Sources([first], Cache(os.fsencode(tmp_path), 1 << 20))
    sources.know({"a": "ab" * 32})
    assert [_get(sources) for _ in range(3)] == [0, CACHE, CACHE]
    assert [_get(sources, "unknown") for _ in range(2)] == [0, 0]
    assert _get(sources, without=frozenset((CACHE,))) == 0
    assert (first.asked, sources.cached) == (["a", "unknown", "unknown", "a"], 40)
    sources.spoiled("a", CACHE, Damaged("its seal is broken"))
    assert _get(sources) == 0
    assert sources.notes() == []
