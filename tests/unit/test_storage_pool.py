from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from torpor.storage.pool import FilePool


def opener(path: Path) -> Callable[[], int]:
    return lambda: os.open(path, os.O_RDONLY)


def is_open(fd: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = [tmp_path / str(number) for number in range(10)]
    for number, path in enumerate(made):
        path.write_bytes(bytes([number]) * 100)
    return made


def test_the_same_file_is_opened_once(paths: list[Path]) -> None:
    pool = FilePool(4)
    with pool.using("a", opener(paths[0])) as first:
        pass
    with pool.using("a", opener(paths[1])) as again:
        assert again == first
    pool.close()
    assert not is_open(first)
    assert len(pool) == 0


def test_the_least_recently_used_goes_first(paths: list[Path]) -> None:
    pool = FilePool(2)
    for key in ("0", "1", "0", "2"):
        with pool.using(key, opener(paths[int(key)])):
            pass
    assert sorted(pool._open) == ["0", "2"]
    pool.close()


def test_what_is_in_use_stays_open(paths: list[Path]) -> None:
    pool = FilePool(1)
    with pool.using("0", opener(paths[0])) as a, pool.using("1", opener(paths[1])) as b, pool.using("0", opener(paths[0])) as c:
        assert a == c
        assert len(pool) == 2
        pool.close()
        assert os.pread(a, 1, 0) == b"\0"
        assert os.pread(b, 1, 0) == b"\1"
    assert not is_open(a)
    assert not is_open(b)


def test_a_forgotten_file_is_opened_anew_and_closed_by_its_last_user(paths: list[Path]) -> None:
    pool = FilePool(4)
    with pool.using("0", opener(paths[0])) as old:
        pool.forget("0")
        pool.forget("0")
        with pool.using("0", opener(paths[1])) as new:
            assert os.pread(old, 1, 0) == b"\0"
            assert os.pread(new, 1, 0) == b"\1"
    assert not is_open(old)
    assert is_open(new)
    pool.close()


def test_a_failing_open_leaves_no_trace(tmp_path: Path) -> None:
    pool = FilePool(4)
    with pytest.raises(FileNotFoundError), pool.using("x", opener(tmp_path / "none")):
        pass
    assert len(pool) == 0


def test_threads_never_read_another_file(paths: list[Path]) -> None:
    pool = FilePool(2)
    before = len(os.listdir("/proc/self/fd"))
    barrier = threading.Barrier(8)

    def work(seed: int) -> None:
        barrier.wait(timeout=60)
        for step in range(500):
            number = (seed * 31 + step * 7) % len(paths)
            with pool.using(str(number), opener(paths[number])) as fd:
                assert os.pread(fd, 100, 0) == bytes([number]) * 100
            if step % 50 == seed:
                pool.forget(str(number))

    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(work, seed) for seed in range(8)]:
            future.result(timeout=60)
    assert len(pool) <= 2
    pool.close()
    assert len(os.listdir("/proc/self/fd")) == before
