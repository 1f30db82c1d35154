"""The S3 family, held to the shipped suite: each service as our emulator plays it, and rclone's real server."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.emulators.rclone import Rclone
from tests.emulators.s3 import Object, S3Emulator
from torpor.access import Access
from torpor.storage.base import Store
from torpor.storage.s3 import S3Store
from torpor.storage.table import open_store
from torpor.testing.store_suite import StoreSuite

PAGE = 97


def short_pages(params: dict[str, object], **_: object) -> None:
    """For a server whose pages are longer unless shorter ones are asked for."""
    params["MaxKeys"] = PAGE


class S3Suite(StoreSuite):
    """One server for all tests of a class, emptied before each; one client too, since boto3 takes its time to make one."""

    profile: str
    url: str
    names_of_keys: tuple[str, str]
    emulator: S3Emulator
    access: Access
    opened: Store
    races = 15

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _serve(cls) -> Iterator[None]:
        with S3Emulator(cls.profile, page=PAGE) as emulator:
            cls.emulator = emulator
            cls.access = Access(dict(zip(cls.names_of_keys, (emulator.key, emulator.secret), strict=True)))
            cls.opened = open_store(cls.url.format(emulator.url), cls.access)
            yield

    def make_store(self) -> Store:
        self.emulator.objects.clear()
        return self.opened

    def open_again(self, url: str) -> Store:
        return open_store(url, self.access)

    def fill(self, names: Sequence[str]) -> None:
        for name in names:
            self.raw_put(name, name.encode())

    def raw_get(self, name: str) -> bytes | None:
        found = self.emulator.objects.get("a/prefix/" + name)
        return None if found is None else found.data

    def raw_put(self, name: str, data: bytes) -> None:
        self.emulator.objects["a/prefix/" + name] = Object(data, time.time())

    def raw_delete(self, name: str) -> None:
        del self.emulator.objects["a/prefix/" + name]


class TestAws(S3Suite):
    profile = "aws"
    url = "s3://bucket/a/prefix?endpoint={}&provider=aws"
    names_of_keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


class TestR2(S3Suite):
    profile = "r2"
    url = "r2://bucket/a/prefix?endpoint={}"
    names_of_keys = ("R2_ACCESS_KEY", "R2_SECRET_KEY")


class TestWasabi(S3Suite):
    profile = "wasabi"
    url = "wasabi://bucket/a/prefix?endpoint={}"
    names_of_keys = ("WASABI_ACCESS_KEY", "WASABI_SECRET_KEY")


class TestB2OverS3(S3Suite):
    profile = "b2"
    url = "s3://bucket/a/prefix?endpoint={}&provider=b2"
    names_of_keys = ("B2_KEY_ID", "B2_APPLICATION_KEY")


class TestRclone(StoreSuite):
    """A server that nothing is known of. A bucket is a folder; what it read of folders it keeps, so others write through it too.

    Each test has a prefix of its own, since after many writes to one name at once that name stays in its lists, deleted or not.
    """

    server: Rclone
    access: Access
    first: S3Store
    prefix: str
    many = 5 * PAGE
    races = 15

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _serve(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with Rclone(tmp_path_factory.mktemp("rclone")) as server:
            cls.server = server
            cls.access = Access({"AWS_ACCESS_KEY_ID": server.key, "AWS_SECRET_ACCESS_KEY": server.secret})
            (server.folder / "bucket").mkdir()
            cls.first = S3Store.from_url(f"s3://bucket?endpoint={server.url}", cls.access)
            cls.first._client.s3.meta.events.register("before-parameter-build.s3.ListObjectsV2", short_pages)
            yield

    def make_store(self) -> Store:
        self.prefix = os.urandom(4).hex() + "/"
        store = S3Store.from_url(f"s3://bucket/{self.prefix}?endpoint={self.server.url}", self.access)
        store._client._s3, store._client._session = self.first._client.s3, self.first._client._session
        return store

    def open_again(self, url: str) -> Store:
        return open_store(url, self.access)

    def alone_after_a_race(self, name: str) -> bool:
        """Whether it lies in the server's folder: the lists of 1.75 may leave out what it took just as it removed that folder for being
        empty, and show for a while what was deleted."""
        return self.raw_get(name) is not None

    def raw_get(self, name: str) -> bytes | None:
        path = self.server.folder / "bucket" / self.prefix / name
        return path.read_bytes() if path.is_file() else None

    def raw_put(self, name: str, data: bytes) -> None:
        self.first._client.s3.put_object(Bucket="bucket", Key=self.prefix + name, Body=data)

    def raw_delete(self, name: str) -> None:
        self.first._client.s3.delete_object(Bucket="bucket", Key=self.prefix + name)
