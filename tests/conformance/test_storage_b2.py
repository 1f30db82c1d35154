"""Backblaze B2, held to the shipped suite through the real b2sdk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import pytest

from tests.emulators.b2 import B2
from torpor.access import Access
from torpor.storage.base import Store
from torpor.storage.table import open_store
from torpor.testing.store_suite import StoreSuite

PAGE = 47


class TestB2(StoreSuite):
    prefix = "a.team/its-snapshots/"
    many = 5 * PAGE
    races = 15

    b2: B2

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _serve(cls) -> Iterator[None]:
        with B2(page=PAGE) as cls.b2:
            yield

    def make_store(self) -> Store:
        self.b2.the_bucket.files.clear()
        return self.open_again(f"b2://{self.b2.bucket}/{self.prefix}?realm={self.b2.realm}")

    def open_again(self, url: str) -> Store:
        return open_store(url, Access({"B2_KEY_ID": self.b2.key_id, "B2_APPLICATION_KEY": self.b2.key}))

    def fill(self, names: Sequence[str]) -> None:
        for name in names:
            self.raw_put(name, name.encode())

    def raw_get(self, name: str) -> bytes | None:
        found = self.b2.the_bucket.newest(self.prefix + name)
        return None if found is None else found.data

    def raw_put(self, name: str, data: bytes) -> None:
        sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        self.b2.service.put(self.b2.the_bucket, self.prefix + name, data, sha1)

    def raw_delete(self, name: str) -> None:
        del self.b2.the_bucket.files[self.prefix + name]


class TestB2AtTheRoot(TestB2):
    """Without a prefix of its own."""

    prefix = ""
