"""The cache of packs: what it gives is what it was given, whatever happens to its folder, and it stays within its bound."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from torpor.errors import UsageError
from torpor.storage import cache as module
from torpor.storage.cache import Cache

KEY, OTHER = "ab" * 32, "cd" * 32
DATA = bytes(range(256)) * 40


def _keep(cache: Cache, key: str, start: int, end: int) -> None:
    cache.keep(key, start, memoryview(DATA[start:end]))


def _read(cache: Cache, key: str, start: int, end: int) -> bytes | None:
    out = bytearray(end - start)
    return bytes(out) if cache.read(key, start, memoryview(out)) else None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*-*") if path.is_file())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def _open(folder: Path, limit: int = 1 << 20) -> Cache:
    return Cache(os.fsencode(folder), limit)


def test_what_was_kept_is_there_for_the_next_process_too(folder: Path) -> None:
    _keep(_open(folder), KEY, 100, 300)
    again = _open(folder)
    assert _read(again, KEY, 100, 300) == DATA[100:300]
    assert _read(again, OTHER, 100, 300) is None
    assert again.hits == 200
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("start", "end", "there"),
    [(100, 400, True), (120, 180, True), (150, 350, True), (299, 301, True), (50, 150, False), (350, 401, False), (600, 700, False)],
)
def test_other_ranges_are_put_together(folder: Path, start: int, end: int, there: bool) -> None:
    """Of 100-300, 250-400, and one that is not needed."""
    cache = _open(folder)
    for first, last in ((100, 300), (250, 400), (500, 510)):
        _keep(cache, KEY, first, last)
    assert _read(cache, KEY, start, end) == (DATA[start:end] if there else None)


@pytest.mark.parametrize("harm", ["flip", "cut", "longer", "empty", "digest"])
def test_a_poisoned_file_is_a_miss_and_goes(folder: Path, harm: str) -> None:
    cache = _open(folder)
    _keep(cache, KEY, 0, 1000)
    (path,) = _files(folder)
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[500] ^= 1
    elif harm == "digest":
        data[-1] ^= 1
    changed: dict[str, bytearray] = {"cut": data[:-40], "longer": data + b"x", "empty": bytearray()}
    path.write_bytes(changed.get(harm, data))
    assert _read(cache, KEY, 10, 20) is None
    assert _read(cache, KEY, 0, 1000) is None
    assert _files(folder) == []
    _keep(cache, KEY, 0, 1000)
    assert _read(cache, KEY, 0, 1000) == DATA[:1000]


def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    cache = _open(folder)
    _keep(cache, KEY, 0, 1000)
    (path,) = _files(folder)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert _read(cache, KEY, 0, 1000) is None


def test_what_proved_false_is_forgotten(folder: Path) -> None:
    cache = _open(folder)
    for start in (0, 100):
        _keep(cache, KEY, start, start + 50)
    _keep(cache, OTHER, 0, 50)
    cache.drop(KEY)
    assert [path.parent.name for path in _files(folder)] == [OTHER]
    cache.drop(KEY)


def test_the_one_not_used_for_longest_goes_first(folder: Path) -> None:
    cache = _open(folder, 10 * (100 + module.DIGEST))
    for number in range(10):
        _keep(cache, f"{number:064x}", 0, 100)
        (path,) = folder.rglob(f"{number:064x}/0-100")
        os.utime(path, ns=(number * 10**9, number * 10**9))
    assert len(_files(folder)) == 10
    assert _read(cache, f"{0:064x}", 0, 100) == DATA[:100]  # used now
    _keep(cache, OTHER, 0, 100)
    left = {path.parent.name for path in _files(folder)}
    assert left == {OTHER, *(f"{number:064x}" for number in (0, 2, 3, 4, 5, 6, 7, 8, 9))}
    assert not (folder / "00" / f"{1:064x}").exists()


def test_the_bound_holds(folder: Path) -> None:
    limit = 5000
    cache = _open(folder, limit)
    for number in range(200):
        _keep(cache, f"{number:064x}", 0, 10 + number)
        assert sum(path.stat().st_size for path in _files(folder)) <= limit
    assert len(_files(folder)) > 5
    _keep(cache, KEY, 0, 6000)
    assert _read(cache, KEY, 0, 6000) is None
    smaller = _open(folder, 1000)
    _keep(smaller, KEY, 0, 10)
    assert sum(path.stat().st_size for path in _files(folder)) <= 1000


def test_no_room_at_all(folder: Path) -> None:
    cache = _open(folder, 0)
    _keep(cache, KEY, 0, 10)
    assert _read(cache, KEY, 0, 10) is None
    with pytest.raises(UsageError):
        _open(folder, -1)


def test_a_full_disk_only_costs_speed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = _open(folder)
    _keep(cache, KEY, 0, 100)
    with monkeypatch.context() as patch:

        def full(fd: int, parts: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "writev", full)
        _keep(cache, OTHER, 0, 100)
    assert _read(cache, OTHER, 0, 100) is None
    assert _read(cache, KEY, 0, 100) == DATA[:100]
    assert cache.notes() == [f"Nothing more was kept in the cache {folder}: No space left on device."]
    assert len(_files(folder)) == 1


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    cache = _open(tmp_path / "file" / "cache")
    _keep(cache, KEY, 0, 10)
    assert _read(cache, KEY, 0, 10) is None
    assert "Not a directory" in cache.notes()[0]


def test_what_was_never_finished_goes(folder: Path) -> None:
    folder.mkdir()
    old, new = folder / ".new-1-0", folder / ".new-2-0"
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (1, 1))
    _keep(_open(folder), KEY, 0, 10)
    assert (old.exists(), new.exists()) == (False, True)


def test_many_threads(folder: Path) -> None:
    cache = _open(folder, 40_000)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for step in range(150):
            number = (seed * 31 + step * 7) % 40
            start = number * 100
            found = _read(cache, f"{number:064x}", start, start + 1000)
            if found is None:
                _keep(cache, f"{number:064x}", start, start + 1000)
            elif found != DATA[start : start + 1000]:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.notes() == []
    assert sum(path.stat().st_size for path in _files(folder)) <= 40_000


def test_what_others_are_writing_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five threads write 300 bytes at one moment, with room for three: nothing is there yet that could be removed for the others."""
    cache = _open(folder, 1000)
    write, decided = os.writev, threading.Event()

    def late(fd: int, parts: list[memoryview]) -> int:
        assert decided.wait(60)
        return write(fd, parts)

    monkeypatch.setattr(os, "writev", late)
    threads = [threading.Thread(target=_keep, args=(cache, f"{number:064x}", 0, 268)) for number in range(5)]
    for thread in threads:
        thread.start()
    for _ in range(500):
        if sum(thread.is_alive() for thread in threads) == 3:
            break
        threads[0].join(0.01)
    decided.set()
    for thread in threads:
        thread.join()
    assert [path.stat().st_size for path in _files(folder)] == [300] * 3


_CHILD = """
import sys
from torpor.storage.cache import Cache
cache, data = Cache(sys.argv[1].encode(), 60_000), bytes(range(256)) * 40
for step in range(400):
    number = (int(sys.argv[2]) * 13 + step * 7) % 50
    out = bytearray(2000)
    if not cache.read(f"{number:064x}", 0, memoryview(out)):
        cache.keep(f"{number:064x}", 0, memoryview(data[number : number + 2000]))
    elif out != data[number : number + 2000]:
        sys.exit(f"wrong: {number}")
sys.exit(str(cache.notes()) if cache.notes() else 0)
"""


def test_several_processes(folder: Path) -> None:
    running = [subprocess.Popen([sys.executable, "-c", _CHILD, str(folder), str(seed)]) for seed in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert sum(path.stat().st_size for path in _files(folder)) <= 60_000 * (1 + 3 / 16)
