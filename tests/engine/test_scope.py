"""Which files belong to a snapshot, and where its roots go: several roots, single files, maps, excludes, file systems."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engine.lab import Lab, same, write
from torpor.control import catalogue, destroy
from torpor.errors import DestroyRefused, NoSpace, TargetNotEmpty, UsageError
from torpor.events import Event, ignore
from torpor.jobs import Scope
from torpor.machines.base import Ground, Proof
from torpor.machines.local import LocalMachine
from torpor.testing import nasty
from torpor.testing.samples import noise

MIB = 1 << 20


def tree(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


# roots


@pytest.mark.parametrize("size", [0, 10, 9 * MIB])
def test_a_single_file(lab: Lab, root: Path, tmp_path: Path, size: int) -> None:
    source = write(root / "file.bin", noise(size + 1)[:size])
    write(root / "beside", "not part of it")
    source.chmod(0o751)
    lab.take(source)
    lab.restore(tmp_path / "out")
    same(source, tmp_path / "out" / "file.bin")
    assert tree(tmp_path / "out") == ["file.bin"]
    assert lab.check_all()


def test_a_single_file_goes_beside_others_but_over_none(lab: Lab, root: Path, tmp_path: Path) -> None:
    source = write(root / "file", noise(2 * MIB))
    lab.take(source)
    write(tmp_path / "out/other", "stays")
    write(tmp_path / "out/file", "in the way")
    with pytest.raises(TargetNotEmpty):
        lab.restore(tmp_path / "out")
    assert (tmp_path / "out/file").read_text() == "in the way"
    lab.restore(tmp_path / "out", mode="merge")
    same(source, tmp_path / "out/file")
    assert tree(tmp_path / "out") == ["file", "other"]
    assert lab.restore(tmp_path / "out", mode="merge").fetched_bytes == 0


def test_a_link_named_as_a_root_stands_for_what_it_leads_to(lab: Lab, root: Path, tmp_path: Path) -> None:
    write(root / "folder/inside", "in a folder")
    write(root / "file", "in a file")
    (root / "to-folder").symlink_to("folder")
    (root / "to-file").symlink_to("file")
    lab.take(root / "to-folder", root / "to-file")
    lab.restore(None, maps={os.fsencode(root / "to-folder"): os.fsencode(tmp_path / "f"), b"to-file": os.fsencode(tmp_path / "g")})
    same(root / "folder", tmp_path / "f")
    same(root / "file", tmp_path / "g")


def test_several_roots(lab: Lab, root: Path, tmp_path: Path) -> None:
    """Below the target by their old paths; two of one name, one a file, hard links across them."""
    nasty.make(root / "one/data", ["names", "sizes"])
    nasty.make(root / "two/data", ["holes", "links"])
    file = write(root / "three/single", "file")
    os.link(root / "one/data/sizes/random-1048577", root / "two/data/shared")
    roots = [root / "one/data", root / "two/data", file]
    lab.take(*roots)
    lab.restore(tmp_path / "out")
    for path in roots:
        same(path, tmp_path / "out" / path.relative_to("/"))
    copies = [tmp_path / "out" / path.relative_to("/") for path in roots]
    assert (copies[0] / "sizes/random-1048577").stat().st_ino == (copies[1] / "shared").stat().st_ino
    again = lab.take(*copies, machine="b")
    assert again.result.read_files == 0
    assert lab.check_all()


def test_roots_are_mapped_one_by_one(lab: Lab, root: Path, tmp_path: Path) -> None:
    nasty.make(root / "one", ["names"])
    nasty.make(root / "two", ["sizes"])
    file = write(root / "three", "file")
    lab.take(root / "one", root / "two", file)
    maps = {os.fsencode(root / "one"): tmp_path / "x/y", b"two": tmp_path / "z", os.fsencode(file): tmp_path / "w/renamed"}
    lab.restore(None, maps={old: os.fsencode(new) for old, new in maps.items()})
    same(root / "one", tmp_path / "x/y")
    same(root / "two", tmp_path / "z")
    same(file, tmp_path / "w/renamed")
    only = {b"two": os.fsencode(tmp_path / "only")}
    result = lab.restore(None, maps=only)
    same(root / "two", tmp_path / "only")
    assert result.files == len([path for path in tree(root / "two") if (root / "two" / path).is_file()])
    with pytest.raises(UsageError, match="has no folder"):
        lab.restore(None, maps={b"four": b"/nowhere"})
    with pytest.raises(UsageError, match="No target"):
        lab.restore(None)


def test_a_root_that_shares_links_with_another_is_not_restored_alone(lab: Lab, root: Path, tmp_path: Path) -> None:
    write(root / "one/file", "shared")
    (root / "two").mkdir()
    os.link(root / "one/file", root / "two/link")
    lab.take(root / "one", root / "two")
    lab.restore(None, maps={b"one": os.fsencode(tmp_path / "one")})
    same(root / "one", tmp_path / "one")
    with pytest.raises(UsageError, match="share hard-linked files"):
        lab.restore(None, maps={b"two": os.fsencode(tmp_path / "two")})
    assert not (tmp_path / "two").exists()


def test_two_roots_do_not_go_to_one_place(lab: Lab, root: Path, tmp_path: Path) -> None:
    write(root / "one/file", "1")
    write(root / "two/file", "2")
    lab.take(root / "one", root / "two")
    with pytest.raises(UsageError):
        lab.restore(None, maps={b"one": os.fsencode(tmp_path / "x"), b"two": os.fsencode(tmp_path / "x")})
    assert not (tmp_path / "x").exists()


def test_a_root_within_another(lab: Lab, root: Path, tmp_path: Path) -> None:
    write(root / "a/b/file", "x")
    os.link(root / "a/b/file", root / "a/b/link")
    lab.take(root / "a", root / "a/b")
    lab.restore(None, maps={b"a": os.fsencode(tmp_path / "a"), b"b": os.fsencode(tmp_path / "b")})
    same(root / "a", tmp_path / "a")
    assert (tmp_path / "b/file").read_text() == "x"


def test_targets_must_be_free(lab: Lab, root: Path, tmp_path: Path) -> None:
    write(root / "file", "x")
    snapshot = lab.take(root).snapshot.id
    write(tmp_path / "used/other", "theirs")
    with pytest.raises(TargetNotEmpty, match="1 other files"):
        lab.restore(tmp_path / "used")
    assert tree(tmp_path / "used") == ["other"]
    write(tmp_path / "file", "x")
    with pytest.raises(UsageError, match="not a folder"):
        lab.restore(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    lab.restore(tmp_path / "empty")
    lab.restore(tmp_path / "to/be/made")
    with pytest.raises(TargetNotEmpty):  # it is complete: nothing there is unfinished
        lab.restore(tmp_path / "empty", snapshot)


# file systems


@contextmanager
def mounted(path: Path, options: str = "size=64m", kind: str = "tmpfs") -> Iterator[None]:
    subprocess.run(["mount", "-t", kind, *(["-o", options] if kind == "tmpfs" else []), "torpor-test", path], check=True)
    try:
        yield
    finally:
        done = subprocess.run(["umount", path], check=False, capture_output=True, text=True)
        if done.returncode:  # something still holds it open: that is an error, but must not hold up the clean-up
            subprocess.run(["umount", "-l", path], check=True)
            raise AssertionError(done.stderr)


def other_file_system(path: Path) -> Path:
    """A folder of another file system than `path` lies on: one of those that Linux always has."""
    for folder in ("/dev/shm", "/run", "/var/tmp", "/tmp", str(Path.home())):
        if os.access(folder, os.W_OK) and os.stat(folder).st_dev != path.stat().st_dev:
            return Path(folder)
    raise AssertionError("there is only one file system to write to")


if os.geteuid() == 0:

    def test_another_file_system_is_left_out_and_named(lab: Lab, root: Path, tmp_path: Path) -> None:
        write(root / "file", "kept")
        (root / "mounted").mkdir()
        with mounted(root / "mounted"):
            write(root / "mounted/inside", "of another file system")
            taken = lab.take(root)
            whole = lab.take(root, scope={"one_file_system": False})
        assert taken.snapshot.manifest.problems == {"mount": 1}
        assert not any(taken.result.problems.values())
        assert (taken.result.mounts, whole.result.mounts) == ([f"{root}/mounted"], [])
        assert whole.snapshot.manifest.problems == {}
        with mounted(root / "mounted"):
            lab.take(root)
            scope, newest = Scope(roots=[os.fsencode(root)]), catalogue.ids(lab.repository)[-1]
            check = destroy.final_check(lab.repository, lab.host, scope, lab.state("a"), newest, destroy.Acceptance(), ignore)
        assert check.problems == [f"mount: {root}/mounted"]  # no machine goes with what was left out, unless that is accepted
        lab.restore(tmp_path / "out", taken.snapshot.id)
        assert tree(tmp_path / "out") == ["file", "mounted"]
        lab.restore(tmp_path / "whole", whole.snapshot.id)
        assert tree(tmp_path / "whole") == ["file", "mounted", "mounted/inside"]

    def test_what_the_kernel_makes_up_keeps_no_machine(lab: Lab, root: Path) -> None:
        """As /proc of the root / does not: nobody's files are in it."""
        (root / "proc").mkdir()
        with mounted(root / "proc", kind="proc"):
            taken = lab.take(root)
            scope = Scope(roots=[os.fsencode(root)])
            check = destroy.final_check(lab.repository, lab.host, scope, lab.state("a"), taken.snapshot.id, destroy.Acceptance(), ignore)
        assert taken.snapshot.manifest.problems == {"mount": 1}
        assert taken.result.mounts == check.problems == []

    def test_what_is_mounted_in_a_local_machine_is_not_deleted_with_it(tmp_path: Path) -> None:
        machine = LocalMachine("box", Ground(tmp_path / "machines"))
        machine.create()
        (machine.workspace / "with a blank").mkdir()
        proof = Proof(machine.address, machine.status().rental, "20260801T120000000-0a1b2c3d", time.time() + 60)
        with mounted(machine.workspace / "with a blank"):
            write(machine.workspace / "with a blank/inside", "of another file system")
            with pytest.raises(DestroyRefused, match="with a blank"):
                machine.destroy(proof)
            assert (machine.workspace / "with a blank/inside").exists()
            assert machine.status().state == "running"
        assert machine.destroy(proof).state == "destroyed"

    @pytest.mark.parametrize("size", [10, 3 * MIB])
    def test_hard_links_across_file_systems_become_copies(lab: Lab, root: Path, tmp_path: Path, size: int) -> None:
        source = write(root / "one/file", noise(size))
        nasty.sparse(os.fsencode(root / "one/holes"), 3 * MIB, (MIB, b"data"))
        (root / "two").mkdir()
        for name in ("file", "holes"):
            os.link(root / "one" / name, root / "two" / name)
        (tmp_path / "b").mkdir()
        lab.take(root / "one", root / "two")
        with mounted(tmp_path / "b"):
            result = lab.restore(None, maps={b"one": os.fsencode(tmp_path / "a"), b"two": os.fsencode(tmp_path / "b/x")})
            assert any("2 hard links became files of their own" in note for note in result.notes)
            same(root / "one", tmp_path / "a")
            same(root / "two", tmp_path / "b/x")
            again = lab.take(tmp_path / "a", tmp_path / "b/x", machine="b")
            assert again.snapshot.manifest.new_bytes == again.snapshot.manifest.index.size
        assert source.exists()

    @pytest.mark.parametrize("options", ["size=64m,nr_inodes=20", "size=64m"])
    def test_a_disk_that_fills_up(lab: Lab, root: Path, tmp_path: Path, options: str) -> None:
        """Bytes, or names, run out in the middle: said as what it is, and the same command goes on once there is room."""
        for number in range(40):
            write(root / f"{number}", noise(MIB + number))
        lab.take(root)
        (tmp_path / "small").mkdir()
        with mounted(tmp_path / "small", options):
            ballast = tmp_path / "small" / "ballast"

            def fill(event: Event) -> None:
                if "inodes" not in options and event.stage == "download" and not ballast.exists():
                    ballast.write_bytes(bytes(50 * MIB))

            with pytest.raises(NoSpace):
                lab.restore(tmp_path / "small/out", listen=fill)
            ballast.unlink(missing_ok=True)
            subprocess.run(["mount", "-o", "remount,size=128m,nr_inodes=1000", tmp_path / "small"], check=True)
            lab.restore(tmp_path / "small/out")
            same(root, tmp_path / "small/out")

    @pytest.mark.parametrize("mode", ["new", "merge"])
    def test_no_room_leaves_no_mark(lab: Lab, root: Path, tmp_path: Path, mode: str) -> None:
        """A restore that was refused is not an unfinished one: another snapshot may go there."""
        write(root / "file", noise(3 * MIB))
        big = lab.take(root)
        write(root / "file", "small")
        small = lab.take(root)
        (tmp_path / "small").mkdir()
        with mounted(tmp_path / "small", "size=1m"):
            if mode == "merge":
                write(tmp_path / "small/out/mine", "x")
            with pytest.raises(NoSpace, match="No file was written"):
                lab.restore(tmp_path / "small/out", big.snapshot.id, mode=mode)
            assert tree(tmp_path / "small") == (["out", "out/mine"] if mode == "merge" else [])
            lab.restore(tmp_path / "small/out", small.snapshot.id, mode=mode)


@pytest.mark.parametrize("count", [1500, 3000])
def test_a_target_of_many_components(lab: Lab, root: Path, tmp_path: Path, count: int) -> None:
    write(root / "file", "x")
    lab.take(root)
    deep = os.fsencode(tmp_path) + b"/d" * count
    try:
        if count == 3000:
            with pytest.raises(UsageError, match="more than the system takes"):
                lab.restore(deep)
            assert not (tmp_path / "d").exists()
        else:
            lab.restore(deep)
            assert os.listdir(deep) == [b"file"]
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # shutil's own may not go so deep


def test_each_root_needs_room_where_it_goes(lab: Lab, root: Path, tmp_path: Path) -> None:
    """A large root on a large disk, a small one on a small disk."""
    if os.geteuid() != 0:
        (tmp_path / "small").mkdir()
        _room(lab, root, tmp_path)
        return
    (tmp_path / "small").mkdir()
    with mounted(tmp_path / "small", "size=1m"):
        _room(lab, root, tmp_path)


def _room(lab: Lab, root: Path, tmp_path: Path) -> None:
    write(root / "large/file", noise(9 * MIB))
    write(root / "little/file", "x")
    lab.take(root / "large", root / "little")
    lab.restore(None, maps={b"large": os.fsencode(tmp_path / "l"), b"little": os.fsencode(tmp_path / "small/s")})
    same(root / "large", tmp_path / "l")
