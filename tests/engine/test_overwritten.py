"""Packs that were written over after they were stored, with other bytes of the same size: where the store tells digests, that is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.lab import Lab, write
from torpor.control import receipts
from torpor.errors import Damaged
from torpor.events import Listener, ignore
from torpor.jobs import Granter, Job, Result, SnapshotResult
from torpor.remote.host import InProcess
from torpor.storage.base import Store
from torpor.storage.memory import MemoryStore
from torpor.testing.samples import noise


def write_over(store: Store) -> str:
    name = next(info.name for info in store.list("packs/") if "/index-" not in info.name)
    store.put(name, bytes(byte ^ 1 for byte in store.get(name)))
    return name


class Replaying(InProcess):
    """Uses a request to write once more when its job is done, as a store without conditional puts lets it."""

    store: Store

    def run(self, job: Job, listen: Listener, ask: Granter | None = None) -> Result:
        result = super().run(job, listen, ask)
        if isinstance(result, SnapshotResult):
            write_over(self.store)
        return result


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write(tmp_path / "source" / "data", noise(100_000, 1))
    return tmp_path / "source"


def test_it_is_not_committed(tmp_path: Path, source: Path) -> None:
    host = Replaying()
    lab = Lab(tmp_path / "lab", store=MemoryStore(digest="md5"), host=host)
    host.store = lab.store
    with pytest.raises(Damaged, match=r"1 of \d packs .* another size or digest"):
        lab.take(source)
    assert lab.objects("snapshots/") == {}


def test_it_is_found_without_reading_and_not_built_on(tmp_path: Path, source: Path) -> None:
    lab = Lab(tmp_path / "lab", store=MemoryStore(digest="sha1"))
    taken = lab.take(source).snapshot.id
    assert receipts.verify(lab.repository, taken, "presence", ignore).damage == {}
    name = write_over(lab.store)
    assert set(receipts.verify(lab.repository, taken, "presence", ignore).damage) == {name}
    lab.take(source)
    assert lab.verify("latest").damage == {}
