"""What --replace never removes: what no snapshot holds, and what torpor restores from."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine.lab import Lab, same, write
from tests.engine.other_user import as_somebody_else
from torpor.errors import HostFailed, TargetNotEmpty
from torpor.format import meta
from torpor.storage.local import LocalStore
from torpor.wake import removal
from torpor.workspace import system
from torpor.workspace.indexfile import IndexFile


@dataclass
class WithState(Lab):
    """A lab whose machines keep their records where they are told."""

    place: bytes = b""

    def state(self, machine: str) -> bytes:
        del machine
        return self.place


# what torpor restores from


@pytest.mark.parametrize("saved", [False, True], ids=["an extra folder", "a folder of the snapshot"])
def test_what_a_host_keeps_is_not_removed(tmp_path: Path, root: Path, saved: bool) -> None:
    """Its records, and anything that looks like a repository or a home, at any depth."""
    out = tmp_path / "out"
    lab = WithState(tmp_path / "lab", place=os.fsencode(root if saved else out) + b"/.state")
    write(root / "file", "x")
    lab.take(root)
    if saved:
        lab.take(root)  # the second one holds the records of the first
    lab.place = os.fsencode(out) + b"/.state"
    lab.restore(out, mode="merge")
    other = Lab(tmp_path / "other", store=LocalStore(str(out / "new/deep/store")))
    other.take(root)
    shutil.copytree(tmp_path / "other/home", out / "new/home")
    write(out / "new/deep/extra", "x")
    write(out / ".state/records/more", "x")
    result = lab.restore(out, mode="replace")
    assert other.check_all()
    assert list((out / "new/home/keys").iterdir())
    assert (out / ".state/records/more").exists()
    assert not (out / "new/deep/extra").exists()
    assert any("new/deep/store (torpor keeps its own things there)" in note for note in result.notes)
    assert lab.restore(out, mode="replace", dry_run=True).removed_paths in ([], [str(out / "new")])


# what the snapshot could not save


def test_what_could_not_be_read_is_not_removed(tmp_path: Path) -> None:
    with as_somebody_else(tmp_path) as folder:
        lab = Lab(folder / "lab")
        ws = folder / "ws"
        shut = {"sec": 0, "locked": 0, "d2": 0o600}
        for name in ("sec", "locked/in", "d2/in2", "kept", "open/file"):
            write(ws / name, name)
        os.mkfifo(ws / "open/fifo")
        for name, mode in shut.items():
            (ws / name).chmod(mode)
        taken = lab.take(ws)
        assert taken.result.problems["unreadable"] == 3
        write(ws / "open/more", "x")
        write(ws / "kept", "changed")
        dry = lab.restore(ws, mode="replace", dry_run=True)
        assert (dry.removed, dry.removed_paths) == (1, [str(ws / "open/more")])
        assert (ws / "open/more").exists()
        result = lab.restore(ws, mode="replace")
        assert result.removed == 1
        assert not (ws / "open/more").exists()
        assert (ws / "open/fifo").exists()
        assert any(f"{ws}/d2/in2 (the snapshot could not save it)" in note for note in result.notes)
        for name in shut:
            (ws / name).chmod(0o700)
        assert [(ws / name).read_text() for name in ("sec", "locked/in", "d2/in2", "kept")] == ["sec", "locked/in", "d2/in2", "kept"]


def test_if_not_all_is_named_nothing_is_removed(lab: Lab, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / "file", "x")
    lab.take(root)
    out = tmp_path / "out"
    lab.restore(out)
    write(out / "extra", "x")
    one = meta.Problem(os.fsencode(root / "a"), "unreadable", "and 7 more")
    monkeypatch.setattr(IndexFile, "problems", lambda self: [one])
    result = lab.restore(out, mode="replace")
    assert (out / "extra").exists()
    assert (result.removed, len(result.notes)) == (0, 1)


def test_a_problem_of_fifos_alone_hides_nothing() -> None:
    assert removal.unsaved([(b"/a", "special", "and 7 more"), (b"/b", "mount", "")]) == frozenset((b"/a", b"/b"))
    assert removal.unsaved([(b"/a", "mount", "and 1 more")]) is None


@contextmanager
def mounted(path: Path, *words: str) -> Iterator[None]:
    subprocess.run(["mount", *(words or ("-t", "tmpfs", "none")), path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


if os.geteuid() == 0:

    @pytest.mark.parametrize("bind", [False, True], ids=["tmpfs", "bind"])
    def test_what_is_mounted_is_not_removed(lab: Lab, root: Path, tmp_path: Path, bind: bool) -> None:
        """Be it where the snapshot has a folder, in a folder that it lacks, or there itself. A file can be mounted too."""
        precious = write(tmp_path / "precious/dataset.bin", "only copy").parent
        how = ("--bind", str(precious)) if bind else ()
        write(root / "code.py", "c")
        for name in ("data", "extra/deep", "alone"):
            (root / name).mkdir(parents=True)
            if name == "data":
                lab.take(root)
        write(root / "extra/gone", "x")
        write(root / "extra/file", "x")
        with mounted(root / "data", *how), mounted(root / "extra/deep", *how), mounted(root / "alone", *how):
            subprocess.run(["mount", "--bind", precious / "dataset.bin", root / "extra/file"], check=True)
            try:
                for name in ("data", "extra/deep", "alone"):
                    write(root / name / "dataset.bin", "only copy")
                write(root / "code.py", "changed")
                result = lab.restore(root, mode="replace")
                for name in ("data", "extra/deep", "alone"):
                    assert (root / name / "dataset.bin").read_text() == "only copy"
                assert (root / "extra/file").read_text() == "only copy"
            finally:
                subprocess.run(["umount", root / "extra/file"], check=True)
            assert not (root / "extra/gone").exists()
            assert (root / "code.py").read_text() == "c"
            assert (
                sum(f"{root}/{name} (another file system" in result.notes[0] for name in ("data/dataset.bin", "extra/deep", "alone")) == 3
            )
        assert (precious / "dataset.bin").read_text() == "only copy"

    def test_a_mount_in_the_way_of_a_file(lab: Lab, root: Path) -> None:
        """Said before anything in the folder goes."""
        for name in ("small", "link", "twin"):
            write(root / "real", "x")
            if name == "small":
                write(root / name, "x")
            elif name == "link":
                (root / name).symlink_to("real")
            else:
                os.link(root / "real", root / name)
        lab.take(root)
        for name in ("small", "link", "twin"):
            (root / name).unlink()
            write(root / name / "file", "mine")
            (root / name / "deep").mkdir()
            with mounted(root / name / "deep"):
                write(root / name / "deep/file", "only copy")
                with pytest.raises(TargetNotEmpty, match=f"{name}/deep must stay"):
                    lab.restore(root, mode="replace")
                assert (root / name / "file").read_text() == "mine"
                assert (root / name / "deep/file").read_text() == "only copy"
            lab.restore(root, mode="replace")

    def test_what_can_not_be_moved_is_named(lab: Lab, root: Path, tmp_path: Path) -> None:
        """By its whole path, and nothing is left beside it."""
        write(root / "in/real", "x")
        write(root / "in/small", "x")
        (root / "in/link").symlink_to("real")
        os.link(root / "in/real", root / "in/twin")
        lab.take(root)
        out = tmp_path / "out"
        lab.restore(out)
        write(tmp_path / "other", "another")
        for name in ("small", "link", "twin"):
            (out / "in" / name).unlink()
            write(out / "in" / name, "mine")
            with mounted(out / "in" / name, "--bind", str(tmp_path / "other")):
                with pytest.raises(HostFailed, match=f"stopped by the system at {out}/in/{name}: Device or resource busy"):
                    lab.restore(out, mode="replace")
                assert [found for found in os.listdir(out / "in") if found.startswith(".torpor-tmp")] == []
            lab.restore(out, mode="replace")
            same(root, out)


# how it is removed


@contextmanager
def few_descriptors(limit: int = 200) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_tree_deeper_than_there_are_descriptors(tmp_path: Path) -> None:
    """Also one whose folders are shut."""
    (tmp_path / "folder").mkdir()
    fd = os.open(tmp_path / "folder", os.O_RDONLY)
    handle = os.dup(fd)
    for number in range(1000):
        os.mkdir("d", dir_fd=fd)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd)) if number else None
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        if number % 2:
            os.fchmod(fd, 0)
        os.close(fd)
        fd = inner
    os.close(fd)
    with few_descriptors():
        assert removal.Remover(frozenset()).tree(handle, b"d") == 1999
    os.close(handle)
    assert os.listdir(tmp_path / "folder") == []


def test_too_few_descriptors_are_said_to_be_so() -> None:
    error = system.refused(OSError(errno.EMFILE, "Too many open files", b"/x"), "The restore", "All is well.")
    assert (type(error), "ulimit -n" in error.remedy) == (HostFailed, True)


def test_a_dry_run_names_what_would_go(lab: Lab, root: Path, tmp_path: Path) -> None:
    write(root / "in/file", "x")
    lab.take(root)
    out = tmp_path / "out"
    lab.restore(out)
    for number in range(25):
        write(out / f"in/extra-{number:02d}/file", "x")
    dry = lab.restore(out, mode="replace", dry_run=True)
    assert (dry.removed, len(dry.removed_paths)) == (25, 20)
    assert set(dry.removed_paths) < {str(out / f"in/extra-{number:02d}") for number in range(25)}
    result = lab.restore(out, mode="replace")
    assert (result.removed, len(result.removed_paths)) == (50, 20)
    same(root, out)
