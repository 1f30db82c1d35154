"""Google Cloud Storage through Google's own client, held to the shipped suite at an emulator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.emulators.gcs import Gcs
from tests.emulators.gcs_service import Stored
from torpor.access import Access
from torpor.storage.base import Store
from torpor.storage.gcs import GcsStore
from torpor.testing.store_suite import StoreSuite

PREFIX = "a/repository/"
PAGE = 97


class TestGcs(StoreSuite):
    """Its URL alone opens it again with what Google's own search for credentials finds in the environment."""

    many = 5 * PAGE  # and more deletions than Google takes in one request
    races = 15

    @pytest.fixture(autouse=True)
    def _serve(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with Gcs(tmp_path, page=PAGE) as self.gcs:
            monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(self.gcs.credentials_file))
            yield

    @pytest.fixture(autouse=True)
    def _prepare(self, tmp_path: Path, _serve: None) -> None:
        self.tmp_path = tmp_path
        self.store = self.make_store()

    def make_store(self) -> Store:
        access = Access({"GOOGLE_APPLICATION_CREDENTIALS": str(self.gcs.credentials_file)})
        return GcsStore.from_url(f"gs://{self.gcs.bucket}/{PREFIX}?endpoint={self.gcs.url}", access)

    def fill(self, names: Sequence[str]) -> None:
        for name in names:
            self.raw_put(name, name.encode())

    def raw_get(self, name: str) -> bytes | None:
        found = self.gcs.objects.get(PREFIX + name)
        return None if found is None else found.data

    def raw_put(self, name: str, data: bytes) -> None:
        self.gcs.objects[PREFIX + name] = Stored(data, 1, 1.0)

    def raw_delete(self, name: str) -> None:
        del self.gcs.objects[PREFIX + name]
