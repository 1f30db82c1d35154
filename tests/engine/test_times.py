"""Times that 64 bits of nanoseconds do not hold: ext4 keeps them up to the year 2446, and a broken archive or clock makes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engine.lab import Lab, either_way, let_age, same, write
from torpor.workspace.scan import FIRST_TIME, LAST_TIME, status_of

FAR = 10_413_792_000  # the year 2300, in seconds


@pytest.fixture(params=["compiled", "by hand"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return either_way(request.param, tmp_path / "lab", monkeypatch)


def test_a_far_future(lab: Lab, tmp_path: Path) -> None:
    """The snapshot is made, everything is there, and such a time is the last one that fits; the next snapshot reads nothing."""
    root = tmp_path / "workspace"
    far = [write(root / "small", "content"), write(root / "large", os.urandom(5_000_000)), write(root / "folder" / "inner", "more")]
    write(root / "usual", "content")
    sparse = write(root / "sparse", b"")
    os.truncate(sparse, 3_000_000)
    os.symlink("nowhere", root / "link")
    far += [sparse, root / "folder", root / "link"]
    for path in far:
        os.utime(path, (FAR, FAR), follow_symlinks=False)
        assert path.lstat().st_mtime_ns > LAST_TIME
    lab.take(root)
    lab.check_all()
    lab.restore(tmp_path / "back")
    for path in far:
        assert (tmp_path / "back" / path.relative_to(root)).lstat().st_mtime_ns == LAST_TIME
        os.utime(path, ns=(LAST_TIME, LAST_TIME), follow_symlinks=False)
    same(root, tmp_path / "back")


def test_it_is_not_read_again(lab: Lab, tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    for size in (7, 5_000_000):
        os.utime(write(root / f"{size}", os.urandom(size)), (FAR, FAR))
    let_age(root)
    lab.take(root)
    assert lab.take(root).result.read_files == 0


def test_the_nearest_is_taken(tmp_path: Path) -> None:
    found = write(tmp_path / "file", "").stat()
    for time, kept in ((-(1 << 80), FIRST_TIME), (FIRST_TIME, FIRST_TIME), (-1, -1), (LAST_TIME, LAST_TIME), (LAST_TIME + 1, LAST_TIME)):
        changed = os.stat_result([*found][:10], {"st_mtime_ns": time, "st_ctime_ns": time, "st_blocks": 0})
        assert status_of(changed).st_mtime_ns == status_of(changed).st_ctime_ns == kept
