"""A whole snapshot and restore over a network that fails now and then, and over one that is gone: the engine in a process of its own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.s3 import S3Emulator, Seen
from tests.emulators.s3_faults import Fault, lost_answer, reset_answer, reset_upload, slow_down, truncated
from tests.engine.lab import Lab, same, write
from torpor.access import Access
from torpor.errors import StorageUnavailable
from torpor.events import Event
from torpor.remote.host import Subprocess
from torpor.storage.base import PACKS
from torpor.storage.table import open_store
from torpor.testing.samples import noise, weights

MIB = 1 << 20
GONE = Fault(503, "ServiceUnavailable")


class Bucket(Lab):
    """A laboratory whose store is a bucket."""

    s3: S3Emulator

    def open(self, home: str, *, create: bool = False, **environment: str) -> Any:
        keys = {"AWS_ACCESS_KEY_ID": self.s3.key, "AWS_SECRET_ACCESS_KEY": self.s3.secret}
        return super().open(home, create=create, **keys, **environment)


@pytest.fixture
def s3() -> Iterator[S3Emulator]:
    with S3Emulator("aws") as emulator:
        yield emulator


@pytest.fixture
def lab(s3: S3Emulator, tmp_path: Path) -> Bucket:
    keys = Access({"AWS_ACCESS_KEY_ID": s3.key, "AWS_SECRET_ACCESS_KEY": s3.secret})
    Bucket.s3 = s3
    return Bucket(tmp_path / "lab", store=open_store(f"s3://{s3.bucket}?endpoint={s3.url}&provider=aws", keys), host=Subprocess())


def made(root: Path, shards: int) -> Path:
    """A workspace, most of it nothing that shrinks; with 63 shards of 16 MiB it is 1 GiB."""
    for number in range(shards):
        write(root / f"shard-{number}", noise.__wrapped__(16 * MIB, number))  # not to be kept in memory for other tests
    write(root / "weights", weights("bf16", 16 * MIB))
    for number in range(300):
        write(root / f"code/{number}.py", f"print({number})\n" * 50)
    return root


def calm(seen: Seen) -> None:
    del seen


def now_and_then(share: float, seed: int) -> Callable[[Seen], Fault | None]:
    """A fault for so large a share of all requests, of every kind in turn."""
    dice, lock = random.Random(seed), threading.Lock()
    kinds = [slow_down, lambda: reset_upload(300_000), lambda: reset_answer(100_000), lambda: truncated(50_000), lost_answer]
    kinds.append(lambda: Fault(200, "InternalError", document=True))

    def choose(seen: Seen) -> Fault | None:
        with lock:
            if dice.random() >= share:
                return None
            fault = kinds[dice.randrange(len(kinds))]()
        return fault if seen.method == "PUT" or fault.upload is None else slow_down()

    return choose


def sent(s3: S3Emulator) -> int:
    return len([seen for seen in s3.requests if seen.status != 599])


def test_one_request_in_twenty_fails(lab: Bucket, s3: S3Emulator, tmp_path: Path) -> None:
    """What it needs: as many requests as there would be if each was answered the first time."""
    source = made(tmp_path / "source", 63)
    before, s3.faults = sent(s3), now_and_then(0.05, 7)
    taken = lab.take(source)
    result = lab.restore(tmp_path / "stormy")
    s3.faults = calm
    same(source, tmp_path / "stormy")
    failed = taken.result.traffic.retries + result.traffic.retries
    assert failed > 3
    requests = sent(s3) - before
    assert requests <= 1.3 * (requests - failed)
    assert taken.result.traffic.sent <= 1.1 * taken.result.stored_bytes
    assert result.traffic.received <= 1.1 * taken.result.stored_bytes
    assert lab.verify(depth="presence").damage == {}  # all was read just now


def after(count: int, fault: Fault, s3: S3Emulator) -> Callable[[Seen], Fault | None]:
    """From the so-manieth request of a pack on, every request of anybody fails."""
    left, lock = [count], threading.Lock()

    def choose(seen: Seen) -> Fault | None:
        with lock:
            left[0] -= seen.path.partition("/packs/")[2] != "" and "index" not in seen.path
            return fault if left[0] < 0 else None

    return choose


def test_a_store_that_is_gone_ends_the_job_and_it_goes_on_later(lab: Bucket, s3: S3Emulator, tmp_path: Path) -> None:
    source = made(tmp_path / "source", 12)
    s3.faults = after(3, GONE, s3)
    began = time.monotonic()
    with pytest.raises(StorageUnavailable) as caught:
        lab.take(source, patience=1.0)
    assert caught.value.retryable
    assert time.monotonic() - began < 100
    s3.faults = calm
    there = sum(lab.objects(PACKS).values())
    assert there > 50 * MIB
    taken = lab.take(source)
    assert taken.result.traffic.sent <= taken.result.stored_bytes - 0.9 * there

    s3.faults = after(24, GONE, s3)
    with pytest.raises(StorageUnavailable) as caught:
        lab.restore(tmp_path / "copy", patience=1.0)
    assert caught.value.retryable
    s3.faults = calm
    heard: list[Event] = []
    result = lab.restore(tmp_path / "copy", listen=heard.append, mode="merge")
    assert result.kept_files + result.written_files >= result.files
    assert result.fetched_bytes < 0.97 * taken.result.stored_bytes
    same(source, tmp_path / "copy")
