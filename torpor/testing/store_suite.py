"""What every store must do: `torpor.storage.base.Store`, sentence by sentence, and its grants.

A store joins with a subclass that makes an empty store, and has a way to its bytes that does not use it:

    class TestMine(StoreSuite):
        def make_store(self) -> Store: ...
        def raw_get(self, name: str) -> bytes | None: ...
        def raw_put(self, name: str, data: bytes) -> None: ...
        def raw_delete(self, name: str) -> None: ...
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from torpor.errors import Damaged, UsageError
from torpor.storage.base import NAME_MAX, BadName, Exists, Info, Missing
from torpor.testing.grant_suite import GrantSuite
from torpor.testing.store_case import FOLDER, MIB, OTHER, SNAPSHOT, THREADS, FailingParts, many_parts, together

BAD_NAMES = [
    "", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/./b", ".hidden", "a/.tmp-1", "a b", "a\\b", "a\0b", "a\n", "é", "a?b",
    "a%2fb", "a:b", "x" * (NAME_MAX + 1),
]  # fmt: skip


class StoreSuite(GrantSuite):
    many = 1_200  # objects in a long list: more than a page of any known service; fewer will do where pages are short
    races = 50  # how often two threads meet; fewer will do where a server takes them one by one

    # put and get

    @pytest.mark.parametrize(
        "data",
        [b"", b"x", bytearray(b"bytearray"), memoryview(b"view"), [], [b""], [b"a", b"", bytearray(b"b"), memoryview(b"c")]],
        ids=["empty", "bytes", "bytearray", "memoryview", "no parts", "an empty part", "parts"],
    )
    def test_get_returns_what_put_wrote(self, data: Any) -> None:
        whole = b"".join(data) if isinstance(data, list) else bytes(data)
        info = self.store.put("config.json", data)
        assert self.store.get("config.json") == whole
        assert self.raw_get("config.json") == whole
        assert (info.name, info.size) == ("config.json", len(whole))

    def test_get_reads_what_others_wrote(self) -> None:
        self.raw_put("keys/0011223344556677.json", b"from elsewhere")
        assert self.store.get("keys/0011223344556677.json") == b"from elsewhere"

    def test_put_replaces(self) -> None:
        self.store.put("claims/a.json", b"a long first version")
        self.store.put("claims/a.json", b"second")
        assert self.raw_get("claims/a.json") == b"second"
        assert self.names() == ["claims/a.json"]

    def test_a_big_object_of_many_parts(self) -> None:
        whole, parts = many_parts(40 * MIB)
        self.store.put(FOLDER + "89abcdef-0", parts)
        out = bytearray(len(whole))
        self.store.get_into(FOLDER + "89abcdef-0", 0, memoryview(out))
        assert out == whole
        assert self.store.get(FOLDER + "89abcdef-0", 39 * MIB) == whole[39 * MIB :]
        head = self.store.head(FOLDER + "89abcdef-0")
        assert head is not None
        assert head.size == len(whole)

    def test_names_up_to_the_limit(self) -> None:
        for name in ("x" * NAME_MAX, "a/" * (NAME_MAX // 2 - 1) + "bb", "0", "-", "_", "a-b.c_d/E.f"):
            self.store.put(name, name.encode())
        for name in self.names():
            assert self.store.get(name) == name.encode()
        assert len(self.names()) == 6

    # if_absent

    def test_if_absent_keeps_what_is_there(self) -> None:
        self.store.put("snapshots/a.json", b"first", if_absent=True)
        with pytest.raises(Exists):
            self.store.put("snapshots/a.json", b"second", if_absent=True)
        assert self.raw_get("snapshots/a.json") == b"first"
        self.store.delete(["snapshots/a.json"])
        self.store.put("snapshots/a.json", b"third", if_absent=True)
        assert self.raw_get("snapshots/a.json") == b"third"

    @pytest.mark.parametrize("folder", ["snapshots/", FOLDER])
    def test_of_many_at_once_one_wins(self, folder: str) -> None:
        for number in range(self.races // 5):
            name = f"{folder}race-{number}"
            texts = [f"writer {writer}".encode() * 1000 for writer in range(THREADS)]
            results = together([partial(self.store.put, name, text, if_absent=True) for text in texts])
            winners = [text for text, result in zip(texts, results, strict=True) if isinstance(result, Info)]
            assert all(isinstance(result, Info | Exists) for result in results)
            assert self.raw_get(name) in winners
            if self.store.capabilities.conditional_put:
                assert len(winners) == 1

    def test_of_many_that_replace_one_is_there_whole(self) -> None:
        texts = [bytes([writer]) * 300_000 for writer in range(THREADS)]
        results = together([partial(self.store.put, "claims/a.json", text) for text in texts])
        assert all(isinstance(result, Info) for result in results)
        assert self.raw_get("claims/a.json") in texts

    # whole or not at all

    def test_a_put_that_fails_midway_leaves_nothing(self) -> None:
        with pytest.raises(OSError, match="third part"):
            self.store.put("snapshots/a.json", FailingParts())
        assert self.names() == []
        assert self.store.head("snapshots/a.json") is None
        self.store.put("snapshots/a.json", b"before")
        with pytest.raises(OSError, match="third part"):
            self.store.put("snapshots/a.json", FailingParts())
        assert self.raw_get("snapshots/a.json") == b"before"

    def test_a_reader_never_sees_a_part(self) -> None:
        sizes = {0, 8 * MIB, 9 * MIB}
        seen: set[int] = set()
        name = FOLDER + "89abcdef-1"
        stop = threading.Event()

        def watch() -> None:
            while not stop.is_set():
                head = self.store.head(name)
                seen.add(head.size if head else 0)
                seen.update(info.size for info in self.store.list())

        with ThreadPoolExecutor(1) as pool:
            watcher = pool.submit(watch)
            try:
                for size in (8 * MIB, 9 * MIB, 8 * MIB):
                    self.store.put(name, bytes(size))
            finally:
                stop.set()
            watcher.result(timeout=60)
        assert seen <= sizes

    # ranges

    def test_ranges(self) -> None:
        data = bytes(range(256)) * 8
        self.store.put("a", data)
        for start, length in [(0, 0), (0, 1), (0, 2048), (1, 2047), (2047, 1), (2048, 0), (255, 2), (1000, 24)]:
            assert self.store.get("a", start, length) == data[start : start + length]
            out = bytearray(length)
            self.store.get_into("a", start, memoryview(out))
            assert out == data[start : start + length]
        assert self.store.get("a", 2000) == data[2000:]
        assert self.store.get("a", 2048) == b""

    def test_a_range_beyond_the_end_is_damage(self) -> None:
        self.store.put("a", b"0123456789")
        for start, length in [(0, 11), (10, 1), (11, 0), (5, 1 << 40), (1 << 40, 1)]:
            with pytest.raises(Damaged, match="a has 10 bytes"):
                self.store.get("a", start, length)
        with pytest.raises(Damaged):
            self.store.get("a", 11)
        for start, size in [(0, 11), (10, 1), (11, 0)]:
            with pytest.raises(Damaged):
                self.store.get_into("a", start, memoryview(bytearray(size)))

    def test_what_is_no_range_is_an_error_of_the_caller(self) -> None:
        self.store.put("a", b"0123456789")
        for start, length in [(-1, 1), (0, -1), (-1, None)]:
            with pytest.raises(UsageError):
                self.store.get("a", start, length)
        with pytest.raises(UsageError):
            self.store.get_into("a", -1, memoryview(bytearray(1)))

    def test_get_into_fills_just_the_view(self) -> None:
        self.store.put("a", b"0123456789")
        out = bytearray(b"." * 10)
        self.store.get_into("a", 3, memoryview(out)[2:6])
        assert out == b"..3456...."

    def test_absent(self) -> None:
        self.store.put("a/b", b"")
        for name in ("b", "a/c", "c/d", FOLDER + "89abcdef-0"):
            assert self.store.head(name) is None
            with pytest.raises(Missing):
                self.store.get(name)
            with pytest.raises(Missing):
                self.store.get(name, 5, 5)
            with pytest.raises(Missing):
                self.store.get_into(name, 0, memoryview(bytearray(1)))

    # facts

    def test_put_head_and_list_agree(self) -> None:
        put = self.store.put("receipts/a/b.json", b"12345")
        head = self.store.head("receipts/a/b.json")
        assert list(self.store.list()) == [head]
        assert head is not None
        assert abs(head.modified - put.modified) < 10  # a store that tells no time of a put has that of its answer
        assert put._replace(modified=head.modified) == head
        later = self.store.put("receipts/a/c.json", b"12345")
        assert 0 < put.modified <= later.modified

    def test_the_digest_is_the_one_that_is_promised(self) -> None:
        kind = self.store.capabilities.digest
        info = self.store.put("a", [b"123", b"45"])
        assert info.digest_kind == kind
        assert info.digest == (b"" if kind == "none" else hashlib.new(kind, b"12345").digest())

    # list

    def test_list_ascends_by_name_over_all_levels(self) -> None:
        names = ["a", "a-b", "a.b/c", "b/c", "b-/c", "b/0", "b/c-/d", "b/c.d", "b0", "Z", "b_", "b/d/e/f"]
        for name in names:
            self.store.put(name, b"")
        assert self.names() == sorted(names)

    def test_list_takes_any_prefix(self) -> None:
        names = ["packs/a/1", "packs/a/10", "packs/a/2", "packs/ab/1", "packs/b/1", "packsa", "marks/a"]
        for name in names:
            self.store.put(name, b"")
        for prefix in [
            "",
            "p",
            "packs",
            "packs/",
            "packs/a",
            "packs/a/",
            "packs/a/1",
            "packs/a/10",
            "packs/c",
            "packs/a/1/",
            "z/y/",
        ]:
            assert self.names(prefix) == sorted(name for name in names if name.startswith(prefix)), prefix

    def test_list_is_complete(self) -> None:
        names = sorted(f"packs/{OTHER if number % 3 else SNAPSHOT}/89abcdef-{number}" for number in range(self.many))
        self.fill(names)
        assert [(info.name, info.size) for info in self.store.list()] == [(name, len(name)) for name in names]
        assert self.names(FOLDER) == [name for name in names if name.startswith(FOLDER)]
        gone = names[::2]
        assert self.store.delete(gone) == len(gone)
        assert self.names() == names[1::2]

    def test_list_of_an_empty_store(self) -> None:
        assert self.names() == []
        assert self.names("snapshots/") == []

    def test_list_leaves_out_names_that_are_not_torpors(self) -> None:
        self.store.put("snapshots/a.json", b"")
        for name in (".hidden", "snapshots/.tmp-0123", "snapshots/a copy.json", ".folder/a"):
            self.raw_put(name, b"")
        assert self.names() == ["snapshots/a.json"]

    # names

    @pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
    def test_bad_names_are_refused_by_every_method(self, name: str) -> None:
        store = self.store
        attempts: list[Callable[[], object]] = [
            lambda: store.put(name, b""),
            lambda: store.put(name, b"", if_absent=True),
            lambda: store.get(name),
            lambda: store.get_into(name, 0, memoryview(bytearray(1))),
            lambda: store.head(name),
            lambda: store.delete([name]),
            lambda: store.grant_get([name], 0),
        ]
        for attempt in attempts:
            with pytest.raises(BadName):
                attempt()
        assert self.names() == []

    @pytest.mark.parametrize("prefix", ["/", "..", "../", "a//", "a/../", ".tmp-", "a b", "x" * NAME_MAX])
    def test_bad_prefixes_are_refused_at_the_call(self, prefix: str) -> None:
        with pytest.raises(BadName):
            self.store.list(prefix)

    # delete

    def test_delete(self) -> None:
        for name in ("a", "b", "c/d", "c/e"):
            self.store.put(name, b"")
        assert self.store.delete([]) == 0
        assert self.store.delete(iter(["a", "c/d", "never"])) == 3
        assert self.names() == ["b", "c/e"]
        assert self.store.delete(["a", "c/d", "never"]) == 3
        assert self.names() == ["b", "c/e"]
        assert self.raw_get("a") is None
        assert self.raw_get("b") == b""

    def test_delete_of_what_others_deleted(self) -> None:
        self.store.put("a", b"")
        self.raw_delete("a")
        assert self.store.head("a") is None
        assert self.store.delete(["a"]) == 1

    def test_delete_and_put_at_once(self) -> None:
        """Whoever deletes the last object of a folder does not disturb who writes the next."""
        for number in range(self.races):
            name = f"{FOLDER}89abcdef-{number}"
            self.store.put(name, b"old")
            new = f"{FOLDER}89abcdef-{number + 1000}"
            done = together([partial(self.store.delete, [name]), partial(self.store.put, new, b"new")])
            assert done[0] == 1
            assert isinstance(done[1], Info)
            assert self.alone_after_a_race(new)
            self.store.delete([new])

    # the rest of a store

    def test_sync_and_clean_keep_every_object(self) -> None:
        self.store.sync()
        assert self.store.clean() == 0
        self.store.put(FOLDER + "89abcdef-0", b"pack")
        self.store.put("config.json", b"{}")
        self.store.sync()
        assert self.store.clean() == 0
        assert self.names() == ["config.json", FOLDER + "89abcdef-0"]

    def test_the_url_opens_the_same_objects(self) -> None:
        self.store.put("config.json", b"{}")
        again = self.open_again(self.store.url)
        assert again.url == self.store.url
        assert again.get("config.json") == b"{}"
