from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from torpor import errors
from torpor.clock import FakeClock
from torpor.storage import files
from torpor.storage.base import Exists, Missing, Refused
from torpor.storage.local import LocalStore
from torpor.storage.table import open_store

FOLDER = "packs/20260801T120000000-0a1b2c3d/"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore(str(root))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The durability calls in the order they happen, each really made."""
    log: list[str] = []

    def spy(name: str) -> None:
        real: Callable[..., Any] = getattr(os, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            kind = "folder" if name == "fsync" and os.path.isdir(f"/proc/self/fd/{args[0]}") else "file"
            log.append(f"{name} {kind}" if name == "fsync" else name)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, wrapped)

    for name in ("fsync", "rename", "link", "unlink", "writev"):
        spy(name)
    yield log
    monkeypatch.undo()


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_nothing_is_created_before_the_first_put(store: LocalStore, root: Path) -> None:
    assert list(store.list()) == []
    assert store.head("a") is None
    store.sync()
    store.clean()
    store.delete(["a"])
    assert not root.exists()


def test_objects_are_for_their_owner_alone(store: LocalStore, root: Path) -> None:
    store.put(FOLDER + "89abcdef-0", b"x")
    store.put("config.json", b"x")
    for path in (root, *root.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_control_object_is_durable_before_and_after_it_appears(store: LocalStore, calls: list[str]) -> None:
    store.put("snapshots/a.json", b"first")
    calls.clear()
    store.put("snapshots/b.json", b"x")
    assert calls == ["writev", "fsync file", "rename", "fsync folder"]
    calls.clear()
    store.put("snapshots/c.json", b"x", if_absent=True)
    assert calls == ["writev", "fsync file", "link", "unlink", "fsync folder"]
    calls.clear()
    store.put("receipts/a/b.json", b"x")
    assert calls == ["fsync folder", "fsync folder", "writev", "fsync file", "rename", "fsync folder"]
    calls.clear()
    store.delete(["receipts/a/b.json"])
    assert calls == ["unlink", "fsync folder"]


def test_packs_wait_for_sync(store: LocalStore, calls: list[str]) -> None:
    store.put(FOLDER + "89abcdef-0", b"x")
    calls.clear()
    store.put(FOLDER + "89abcdef-1", b"x")
    store.delete([FOLDER + "89abcdef-0"])
    assert calls == ["writev", "rename", "unlink"]
    store.sync()


def test_the_disk_refusing_midway_leaves_nothing(store: LocalStore, root: Path) -> None:
    """The kernel itself stops the write after 1 MiB."""
    store.put("snapshots/a.json", b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        for if_absent in (False, True):
            with pytest.raises(Refused, match="File too large"):
                store.put("snapshots/b.json", [bytes(700_000), bytes(700_000)], if_absent=if_absent)
        with pytest.raises(Refused):
            store.put("snapshots/a.json", bytes(2 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert everything(root) == ["snapshots", "snapshots/a.json"]
    assert store.get("snapshots/a.json") == b"before"


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_a_kill_in_the_middle_of_a_put_leaves_the_old_state(store: LocalStore, root: Path, step: str) -> None:
    store.put("snapshots/a.json", b"before")
    code = f"""
import os, sys
from torpor.storage.local import LocalStore
def die(*args, **kwargs):
    if {step!r} == "write":
        write(args[0], args[1][:1])
    os.kill(os.getpid(), 9)
write = os.writev
setattr(os, {{"write": "writev", "fsync": "fsync", "rename": "rename"}}[{step!r}], die)
LocalStore({str(root)!r}).put("snapshots/a.json", [b"after " * 1000, b"and more"])
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == -9
    assert [(info.name, info.size) for info in store.list()] == [("snapshots/a.json", 6)]
    assert store.get("snapshots/a.json") == b"before"
    left = [name for name in everything(root) if "/.tmp-" in name]
    assert len(left) == 1
    assert store.clean() == 0, "a writer may still be at work"
    assert LocalStore(str(root), FakeClock((root / left[0]).stat().st_mtime + 24 * 3600 + 1)).clean() == 1
    assert everything(root) == ["snapshots", "snapshots/a.json"]


def test_clean_removes_nothing_but_old_temporary_files(tmp_path: Path, root: Path) -> None:
    clock = FakeClock(1_800_000_000.0)
    store = LocalStore(str(root), clock)
    store.put("config.json", b"x")
    store.put(FOLDER + "89abcdef-0", b"x")
    (root / ".tmp-folder").mkdir()
    (root / FOLDER / ".tmp-old").write_bytes(b"x")
    (root / FOLDER / ".tmp-new").write_bytes(b"x")
    (root / ".hidden").write_bytes(b"x")
    for path in root.rglob("*"):
        os.utime(path, (1.0, 1.0))
    os.utime(root / FOLDER / ".tmp-new", (clock.at - 3600, clock.at - 3600))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ".tmp-old").write_bytes(b"x")
    os.utime(outside / ".tmp-old", (1.0, 1.0))
    (root / "link").symlink_to(outside)
    before = everything(root)
    assert store.clean() == 1
    assert set(before) - set(everything(root)) == {FOLDER + ".tmp-old"}
    assert (outside / ".tmp-old").exists()


def test_delete_takes_empty_folders_away_but_none_of_the_first_level(store: LocalStore, root: Path) -> None:
    store.put(FOLDER + "89abcdef-0", b"x")
    store.put(FOLDER + "89abcdef-1", b"x")
    store.put("receipts/a/b.json", b"x")
    store.delete([FOLDER + "89abcdef-0", "receipts/a/b.json"])
    assert everything(root) == ["packs", FOLDER[:-1], FOLDER + "89abcdef-1", "receipts"]
    store.delete([FOLDER + "89abcdef-1"])
    assert everything(root) == ["packs", "receipts"]


def test_the_root_may_be_a_link(tmp_path: Path, root: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    root.symlink_to(real)
    store = LocalStore(str(root))
    store.put("config.json", b"x")
    assert (real / "config.json").read_bytes() == b"x"
    assert open_store(store.url).get("config.json") == b"x"


def test_links_inside_are_not_followed(tmp_path: Path, store: LocalStore, root: Path) -> None:
    store.put("config.json", b"x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "snapshots").symlink_to(outside)
    (root / "link").symlink_to(outside / "secret")
    (root / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("snapshots/secret", "link", "dangling"):
        assert store.head(name) is None
        with pytest.raises(Missing):
            store.get(name)
        with pytest.raises(Missing):
            store.get_into(name, 0, memoryview(bytearray(1)))
        assert store.delete([name]) == 1
    assert [info.name for info in store.list()] == ["config.json"]
    assert list(store.list("snapshots/")) == []
    with pytest.raises(Refused, match="a folder must be"):
        store.put("snapshots/a.json", b"x")
    with pytest.raises(Exists):
        store.put("dangling", b"x", if_absent=True)
    store.put("link", b"mine")
    assert (outside / "secret").read_bytes() == b"secret"
    assert store.get("link") == b"mine"
    assert os.listdir(outside) == ["secret"]


def test_what_is_no_file_is_no_object(store: LocalStore, root: Path) -> None:
    store.put("config.json", b"x")
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    for name in ("pipe", "folder", "config.json/below"):
        assert store.head(name) is None
        with pytest.raises(Missing):
            store.get(name)
        store.delete([name])
    assert [info.name for info in store.list()] == ["config.json"]
    assert (root / "pipe").exists()
    assert (root / "folder").exists()
    with pytest.raises(Refused):
        store.put("folder", b"x")
    with pytest.raises(Refused):
        store.put("config.json/below", b"x")


def test_a_file_in_the_place_of_the_folder_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(errors.UsageError, match="is not a folder"):
        LocalStore(str(tmp_path / "file"))


@pytest.mark.parametrize("code", [errno.EPERM, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links_still_replaces_nothing(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def no_links(*args: Any, **kwargs: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", no_links)
    store.put("snapshots/a.json", b"first", if_absent=True)
    with pytest.raises(Exists):
        store.put("snapshots/a.json", b"second", if_absent=True)
    assert everything(root) == ["snapshots", "snapshots/a.json"]
    assert store.get("snapshots/a.json") == b"first"


def test_a_repeated_answer_of_a_network_file_system_is_understood(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def answered_twice(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(os, "link", answered_twice)
    assert store.put("snapshots/a.json", b"mine", if_absent=True).size == 4
    monkeypatch.undo()
    assert [info.name for info in store.list()] == ["snapshots/a.json"]


def test_a_folder_that_keeps_vanishing_is_an_error_in_the_end(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def gone(*args: Any, **kwargs: Any) -> None:
        tries.append(1)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(files, "publish", gone)
    with pytest.raises(errors.StorageUnavailable, match="ENOENT"):
        store.put("snapshots/a.json", b"x")
    assert len(tries) == files.TRIES


def test_a_part_that_cannot_be_listed_is_an_error(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a shorter list: prune and verify believe it."""
    store.put("a/b", b"x")
    store.put("c/d", b"x")
    real = files.open_folder

    def closed(above: int, name: str, *, create: bool) -> int:
        if name == "c":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(above, name, create=create)

    monkeypatch.setattr(files, "open_folder", closed)
    listing = store.list()
    assert next(listing).name == "a/b"
    with pytest.raises(Refused, match="EACCES"):
        next(listing)
    with pytest.raises(Refused):
        store.head("c/d")


def test_no_descriptor_is_left_open(store: LocalStore) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    store.put(FOLDER + "89abcdef-0", b"x")
    before = count()
    for number in range(20):
        store.put(f"claims/{number}.json", b"x")
        store.get(f"claims/{number}.json")
        next(store.list())
        store.head("no/such/thing")
        with pytest.raises(Exists):
            store.put(f"claims/{number}.json", b"x", if_absent=True)
        with pytest.raises(Missing):
            store.get("claims/none.json")
        store.delete([f"claims/{number}.json", "no/such"])
        store.sync()
        store.clean()
    assert count() == before


@pytest.mark.parametrize("deep", ["", "/a/b"])
def test_a_folder_that_can_not_be_made_though_the_one_above_is_there(deep: str) -> None:
    """In /proc a new folder is refused as if the one above were missing."""
    with pytest.raises(errors.StorageUnavailable, match="/proc/no-such-store"):
        LocalStore(f"/proc/no-such-store{deep}").put("format", b"1")


def test_a_umask_that_shuts_the_owner_out(root: Path) -> None:
    """Or else nobody but root could write to that folder, or read that object, ever again."""
    before = os.umask(0o777)
    try:
        LocalStore(str(root / "deep")).put(FOLDER + "1", b"data")
    finally:
        os.umask(before)
    made = [root, *root.rglob("*")]
    assert len(made) == 5  # three folders, the two above an object, and it
    for path in made:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
