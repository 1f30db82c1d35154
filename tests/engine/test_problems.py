"""What can't be saved as it is: it is named, the rest is saved, and nothing false is."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.engine.lab import Lab, let_age, same, write
from tests.engine.other_user import as_somebody_else
from torpor.control.snapshots import Taken
from torpor.errors import NotFound, UsageError
from torpor.events import Event
from torpor.native import kernels
from torpor.testing import nasty
from torpor.testing.samples import noise

MIB = 1 << 20


def named(taken: Taken, kind: str) -> list[str]:
    """Paths that were reported as of this kind; the host's counts, the manifest's and the list must agree."""
    lines = [line.partition(": ")[2] for line in taken.result.problem_paths if line.startswith(kind + ": ")]
    assert taken.result.problems[kind] == len(lines)
    assert taken.snapshot.manifest.problems.get(kind, 0) == len(lines)
    return sorted(lines)


def at_end_of_scan(action: Callable[[], object]) -> Callable[[Event], None]:
    """Do something between the walk and the reading of small files."""

    def listen(event: Event) -> None:
        if event.kind == "stage" and event.stage == "scan" and event.state == "ended":
            action()

    return listen


# what is no file


def test_sockets_and_fifos_are_named_and_left_out(lab: Lab, root: Path, tmp_path: Path) -> None:
    write(root / "file", "kept")
    paths = [os.fsdecode(path) for path in nasty.special(root)]
    taken = lab.take(root)
    assert named(taken, "special") == paths
    lab.restore(tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["file"]


@pytest.mark.parametrize("what", ["fifo", "socket"])
def test_a_root_must_be_a_folder_or_a_file(lab: Lab, root: Path, what: str) -> None:
    nasty.special(root)
    with pytest.raises(UsageError, match="neither a folder nor a file"):
        lab.take(root / what)
    assert lab.objects("snapshots/") == lab.objects("claims/") == {}


def test_a_root_that_is_not_there(lab: Lab, root: Path) -> None:
    with pytest.raises(NotFound, match="No such file"):
        lab.take(root / "nowhere")
    (root / "dangling").symlink_to("nowhere")
    with pytest.raises(NotFound):
        lab.take(root / "dangling")


# what goes away, or changes, while it is saved


def test_a_small_file_that_vanishes(lab: Lab, root: Path, tmp_path: Path) -> None:
    for name in "abc":
        write(root / name, name)
    taken = lab.take(root, listen=at_end_of_scan((root / "b").unlink))
    assert named(taken, "vanished") == [str(root / "b")]
    lab.restore(tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["a", "c"]
    assert lab.check_all()


def test_a_file_that_vanishes_while_the_tree_is_walked(lab: Lab, root: Path, tmp_path: Path) -> None:
    for number in range(400):
        write(root / f"{number:03d}", "x")
    write(root / "large", noise(2 * MIB))

    def listen(event: Event) -> None:
        if event.kind == "progress" and event.stage == "scan":
            (root / "large").unlink(missing_ok=True)

    taken = lab.take(root, listen=listen)
    assert named(taken, "vanished") == [str(root / "large")]
    assert taken.snapshot.manifest.files == 400
    lab.restore(tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == sorted(os.listdir(root))


@pytest.mark.parametrize("into", ["folder", "fifo", "link", "other file"])
def test_a_file_that_becomes_something_else(lab: Lab, root: Path, tmp_path: Path, into: str) -> None:
    write(root / "file", "as it was")
    write(root / "other", "something else")

    def change() -> None:
        (root / "file").unlink()
        if into == "folder":
            (root / "file").mkdir()
        elif into == "fifo":
            os.mkfifo(root / "file")
        elif into == "link":
            (root / "file").symlink_to("other")
        else:
            (root / "other").rename(root / "file")

    taken = lab.take(root, listen=at_end_of_scan(change))
    lab.restore(tmp_path / "out")
    restored = tmp_path / "out" / "file"
    if into == "other file":  # one that was read whole, under this name
        assert restored.read_text() == "something else"
    else:
        assert not os.path.lexists(restored)
        assert sum(taken.result.problems.values()) == 1


@pytest.fixture
def on_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Callable[[int], object]], list[int]]:
    """Do something each time this very file is about to be read; the list grows by the number of the call."""
    real = os.preadv
    plants: dict[int, tuple[list[int], Callable[[int], object]]] = {}

    def preadv(fd: int, buffers: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        calls, action = plants.get(os.fstat(fd).st_ino, ([], int))
        calls.append(len(calls) + 1)
        action(len(calls))
        return real(fd, buffers, offset, flags)

    def plant(path: Path, action: Callable[[int], object]) -> list[int]:
        plants[path.stat().st_ino] = ([], action)
        return plants[path.stat().st_ino][0]

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(kernels, "library", lambda: None)  # which reads without it
    return plant


OnRead = Callable[[Path, Callable[[int], object]], list[int]]
SIZES = pytest.mark.parametrize("size", [1000, 9 * MIB], ids=["small", "large"])


@SIZES
def test_a_file_that_changes_once_is_read_again(lab: Lab, root: Path, tmp_path: Path, size: int, on_read: OnRead) -> None:
    path = write(root / "file", noise(size))

    def change(call: int) -> None:
        if call == 1:
            with path.open("ab") as file:
                file.write(b"more")

    calls = on_read(path, change)
    taken = lab.take(root)
    assert len(calls) > 1
    assert not any(taken.result.problems.values())
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")
    assert path.stat().st_size == size + 4


@SIZES
@pytest.mark.parametrize("how", ["grows", "shrinks", "is rewritten"])
def test_a_file_that_keeps_changing_is_named(lab: Lab, root: Path, tmp_path: Path, size: int, how: str, on_read: OnRead) -> None:
    path = write(root / "file", noise(size))
    write(root / "still", "not touched")

    def change(call: int) -> None:
        if how == "grows":
            with path.open("ab") as file:
                file.write(b"more")
        elif how == "is rewritten":
            with path.open("r+b") as file:
                file.write(b"%d" % call)
        else:
            os.truncate(path, max(0, path.stat().st_size - 100))
        os.utime(path, ns=(0, call))

    on_read(path, change)
    taken = lab.take(root)
    assert named(taken, "torn") == [str(path)]
    assert lab.check_all()
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out", ignore=("file",))
    assert (tmp_path / "out" / "file").exists()
    with path.open("ab") as file:  # left alone, it is saved whole by the next one: a torn file is never taken as unchanged
        file.write(b"end")
    os.utime(path, ns=(0, 0))
    on_read(path, lambda call: None)
    assert named(lab.take(root), "torn") == []
    lab.restore(tmp_path / "again")
    same(root, tmp_path / "again")


@SIZES
def test_a_file_that_is_emptied(lab: Lab, root: Path, tmp_path: Path, size: int, on_read: OnRead) -> None:
    path = write(root / "file", noise(size))
    on_read(path, lambda call: os.truncate(path, 0))
    assert not any(lab.take(root).result.problems.values())
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


@pytest.mark.parametrize("grown", [3 * MIB, 6 * MIB])
def test_a_file_that_outgrows_its_bundle(lab: Lab, root: Path, tmp_path: Path, grown: int) -> None:
    """Between the walk and the reading a small file becomes one of several MiB, behind others that fill the bundle."""
    for number in range(3):
        write(root / f"a{number}.bin", noise(900_000, number))
    write(root / "b.bin", noise(1000))
    taken = lab.take(root, listen=at_end_of_scan(lambda: write(root / "b.bin", noise(grown, 9))))
    assert not any(taken.result.problems.values())
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


@SIZES
def test_a_torn_file_is_read_again_even_if_it_looks_the_same(lab: Lab, root: Path, size: int, on_read: OnRead) -> None:
    path = write(root / "file", noise(size))
    on_read(path, lambda call: os.utime(path, ns=(0, call)))
    assert named(lab.take(root), "torn") == [str(path)]
    calls = on_read(path, lambda call: None)
    assert named(lab.take(root), "torn") == []
    assert calls


def test_a_file_under_a_writer(lab: Lab, root: Path, tmp_path: Path) -> None:
    """A process writes one number after the other all over the file. Most readings show it, and are reported.

    One that falls within a single call of the writer, or within one tick of the clock, can't: no time of the file changes then. But it
    is not trusted either: the final check reads such a file once more, and so does the next snapshot.
    """
    path = write(root / "file", bytes(8 * MIB))
    code = (
        "import sys\nfile = open(sys.argv[1], 'r+b', buffering=0)\nprint(flush=True)\n"
        "for n in range(1 << 30):\n    file.seek(0)\n    for _ in range(128):\n        file.write(bytes([n % 256]) * 65_536)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        try:
            writer.stdout.readline()
            for _ in range(20):
                taken = lab.take(root)
                assert named(taken, "torn") == [str(path)] * taken.result.problems["torn"]
                if taken.result.problems["torn"]:
                    break
        finally:
            writer.kill()
    assert named(taken, "torn")
    quiet = lab.take(root)
    assert named(quiet, "torn") == []
    lab.check_all()
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


# what can't be read


@SIZES
@pytest.mark.parametrize("call", [1, 3])
def test_a_read_error_is_named(lab: Lab, root: Path, tmp_path: Path, size: int, call: int, on_read: OnRead) -> None:
    path = write(root / "file", noise(size))
    other = write(root / "sound", noise(9 * MIB, 2))

    def fail(number: int) -> None:
        if size > MIB or call == 1:
            if number >= call:
                raise OSError(5, "Input/output error")
        elif number < call:
            os.utime(path, ns=(0, number))  # a small file is read in one go: change it, so that it is read again
        else:
            raise OSError(5, "Input/output error")

    on_read(path, fail)
    taken = lab.take(root)
    assert named(taken, "unreadable") == [str(path)]
    lab.restore(tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["sound"]
    assert other.read_bytes() == (tmp_path / "out/sound").read_bytes()
    on_read(path, lambda number: None)
    assert named(lab.take(root), "unreadable") == []


def test_what_another_user_may_not_read(tmp_path: Path) -> None:
    with as_somebody_else(tmp_path) as folder:
        lab = Lab(folder / "lab")
        root = folder / "workspace"
        nasty.make(root, ["modes"])
        write(root / "file", "readable")
        taken = lab.take(root)
        unreadable = named(taken, "unreadable")
        expected = ["folder-0000", "folder-0200", *(f"{kind}-{mode}" for kind in ("file", "large", "empty") for mode in ("0000", "0200"))]
        expected += ["folder-0400/file", "folder-1644/file"]  # may be listed, not entered
        assert unreadable == sorted(str(root / "modes" / name) for name in expected)
        lab.restore(folder / "out", setuid=True)
        same(root, folder / "out", ignore=("*-0000", "*-0200", "folder-0400", "folder-1644"))
        assert (folder / "out/modes/folder-0000").stat().st_mode & 0o7777 == 0  # a folder that can't be entered is saved as empty


def test_a_root_file_that_may_not_be_read(tmp_path: Path) -> None:
    with as_somebody_else(tmp_path) as folder:
        lab = Lab(folder / "lab")
        write(folder / "secret", "x").chmod(0)
        with pytest.raises(NotFound, match="can't be read"):
            lab.take(folder / "secret")
        assert lab.objects("snapshots/") == {}


# long paths


def test_paths_longer_than_a_system_call_takes(lab: Lab, deep: Path) -> None:
    root = deep / "root"
    (root / "more").mkdir(parents=True)
    nasty.deep(os.fsencode(root), [b"d" * 250] * 20, noise(2 * MIB))
    nasty.deep(os.fsencode(root / "more"), [b"e"] * 4000, b"small")
    taken = lab.take(root)
    assert not any(taken.result.problems.values())
    lab.restore(deep / "out")
    same(root, deep / "out")
    again = lab.take(deep / "out", machine="b")
    assert (again.result.read_files, again.snapshot.manifest.files) == (0, 2)


def test_folders_deeper_than_the_format_holds_are_named(lab: Lab, deep: Path) -> None:
    root = deep / "root"
    write(root / "file", "kept")
    nasty.deep(os.fsencode(root), [b"d"] * 4200)
    taken = lab.take(root)
    (path,) = named(taken, "unreadable")
    assert path.count("/d") == 4097  # "deep" is one of them
    lab.restore(deep / "out")
    assert (deep / "out/file").read_text() == "kept"


# many


def test_more_problems_than_the_format_holds(lab: Lab, root: Path, tmp_path: Path) -> None:
    """The list ends where there is no room; the snapshot is made, and the host counts all."""
    write(root / "file", "kept")
    for number in range(55_000):
        os.mkfifo(root / f"{number:0240d}")
    taken = lab.take(root)
    assert taken.result.problems["special"] == 55_000
    assert len(taken.result.problem_paths) == 1000
    assert 1000 < taken.snapshot.manifest.problems["special"] < 55_000
    lab.restore(tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["file"]


def test_a_crowd_of_sockets_hides_no_file(lab: Lab, root: Path) -> None:
    """What is lost for good is listed before what no snapshot holds."""
    for number in range(1200):
        os.mkfifo(root / f"{number}")
    write(root / "zz", "vanishes")
    taken = lab.take(root, listen=at_end_of_scan((root / "zz").unlink))
    assert taken.result.problem_paths[0] == f"vanished: {root / 'zz'}"


@pytest.mark.parametrize("way", ["compiled", "by hand"])
def test_more_attributes_than_a_system_call_lists(lab: Lab, root: Path, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names take more than 64 KiB, which tmpfs lets them: the file is saved, and said to be without them, by every snapshot."""
    if way == "by hand":
        monkeypatch.setattr(kernels, "library", lambda: None)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        root = Path(folder) / "root"
        large, small = write(root / "large", noise(2 * MIB)), write(root / "small", "content")
        for path in (large, small, root):
            for number in range(300):
                os.setxattr(path, f"user.{number:0245}", b"")
        for number in range(2):
            taken = lab.take(root)
            assert named(taken, "unreadable") == sorted(str(path) for path in (large, small, root))
            lab.restore(tmp_path / f"{number}")
            assert (tmp_path / f"{number}" / "small").read_text() == "content"
            assert (tmp_path / f"{number}" / "large").read_bytes() == large.read_bytes()
            let_age(root)


def test_files_that_say_they_are_empty(lab: Lab, root: Path) -> None:
    """What the kernel makes up has no size: saved as empty, it would be lost without a word."""
    with pytest.raises(NotFound, match="can't be read"):
        lab.take(Path("/proc/cpuinfo"))
    write(root / "empty", "")
    taken = lab.take(root, Path("/proc/self/net"))
    assert any(path.endswith("/net/dev") for path in named(taken, "unreadable"))
    assert lab.verify().damage == {}
