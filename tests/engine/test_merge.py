"""Restores over what is there: only what differs is fetched, what stays keeps its inode, and nothing is written elsewhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.engine.alterations import ALTERATIONS, make, poke
from tests.engine.lab import Lab, same, write
from tests.engine.other_user import as_somebody_else
from torpor.control.snapshots import Taken
from torpor.errors import TargetNotEmpty
from torpor.testing import nasty
from torpor.testing.compare import compare_trees
from torpor.testing.samples import noise, text

MIB = 1 << 20
KINDS = ("empty", "links", "hardlinks", "holes", "attributes", "acls", "names", "modes", "owners", "times", "arrays")


def tree(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


def inodes(path: Path) -> dict[str, int]:
    return {name: (path / name).lstat().st_ino for name in tree(path)}


def copy(lab: Lab, root: Path, out: Path) -> Taken:
    taken = lab.take(root)
    lab.restore(out)
    return taken


@pytest.mark.parametrize("machine", ["b", "elsewhere"], ids=["with a record", "without one"])
def test_what_is_there_is_not_fetched(lab: Lab, root: Path, tmp_path: Path, machine: str) -> None:
    """By the record nothing is read; without one, files are read and their ids compared. All keep their inodes."""
    nasty.make(root / "in", [part for part in KINDS if os.geteuid() == 0 or part != "modes"])
    lab.take(root)
    lab.restore(tmp_path / "out", setuid=True)
    before = inodes(tmp_path / "out")
    result = lab.restore(tmp_path / "out", machine=machine, mode="merge", setuid=True)
    assert (result.fetched_bytes, result.written_files, result.written_bytes) == (0, 0, 0)
    assert result.kept_files == result.files
    assert inodes(tmp_path / "out") == before
    same(root, tmp_path / "out")
    again = lab.take(tmp_path / "out", machine=machine)
    assert again.snapshot.manifest.files == result.files
    # Bytes that were only compared say nothing about the chunks in the store, which this machine never opened.
    assert (again.result.read_files == 0) == (machine == "b")


@pytest.mark.parametrize("machine", ["b", "elsewhere"], ids=["with a record", "without one"])
def test_one_changed_chunk_is_fetched_alone(lab: Lab, root: Path, tmp_path: Path, machine: str) -> None:
    source = write(root / "large", noise(40 * MIB))
    copy(lab, root, tmp_path / "out")
    target = tmp_path / "out/large"
    inode = target.stat().st_ino
    with target.open("r+b") as file:
        file.seek(22 * MIB)
        file.write(b"one changed byte")
    result = lab.restore(tmp_path / "out", machine=machine, mode="merge")
    assert 4 * MIB <= result.fetched_bytes <= 4 * MIB + 100
    assert (result.written_files, result.written_bytes) == (1, 4 * MIB)
    assert target.stat().st_ino == inode
    same(source, target)


@pytest.mark.parametrize("change", ["longer", "shorter", "by a byte", "emptied"])
def test_a_file_of_another_length(lab: Lab, root: Path, tmp_path: Path, change: str) -> None:
    write(root / "large", noise(18 * MIB))
    copy(lab, root, tmp_path / "out")
    target = tmp_path / "out/large"
    os.truncate(target, {"longer": 30 * MIB, "shorter": 10 * MIB, "by a byte": 18 * MIB + 1, "emptied": 0}[change])
    result = lab.restore(tmp_path / "out", mode="merge")
    fetched = {"longer": 0, "shorter": 10 * MIB, "by a byte": 0, "emptied": 18 * MIB}[change]
    assert fetched <= result.fetched_bytes <= fetched + 1000
    same(root, tmp_path / "out")


def test_small_files_are_fetched_one_by_one(lab: Lab, root: Path, tmp_path: Path) -> None:
    """Of many bundles, those that hold what differs."""
    for number in range(40):
        write(root / f"{number:02d}.bin", noise(600_000, number))
    copy(lab, root, tmp_path / "out")
    before = inodes(tmp_path / "out")
    write(tmp_path / "out/07.bin", noise(600_000, 99))
    (tmp_path / "out/23.bin").unlink()
    result = lab.restore(tmp_path / "out", mode="merge")
    assert (result.written_files, result.kept_files) == (2, 38)
    assert result.fetched_bytes < 9 * MIB
    after = inodes(tmp_path / "out")
    assert {name for name in after if after[name] != before[name]} - {"23.bin"} == {"07.bin"}  # 23.bin may get its old number again
    same(root, tmp_path / "out")


def test_a_newer_snapshot_over_an_older_one(lab: Lab, root: Path, tmp_path: Path) -> None:
    write(root / "large", noise(24 * MIB))
    write(root / "code.py", text(5000))
    write(root / "goes", "away")
    copy(lab, root, tmp_path / "out")
    with (root / "large").open("r+b") as file:
        file.seek(9 * MIB)
        file.write(b"trained on")
    write(root / "code.py", text(6000))
    write(root / "new", "arrived")
    (root / "goes").unlink()
    lab.take(root)
    result = lab.restore(tmp_path / "out", mode="replace")
    assert (result.written_files, result.removed) == (3, 1)
    assert result.fetched_bytes < 4 * MIB + 10_000
    same(root, tmp_path / "out")


@pytest.mark.parametrize("machine", ["b", "elsewhere"], ids=["with a record", "without one"])
@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_replace_makes_it_equal_again(lab: Lab, root: Path, tmp_path: Path, alteration: str, machine: str) -> None:
    make(root)
    copy(lab, root, tmp_path / "out")
    ALTERATIONS[alteration](tmp_path / "out")
    dry = lab.restore(tmp_path / "out", machine=machine, mode="replace", dry_run=True)
    altered = compare_trees(root, tmp_path / "out")
    result = lab.restore(tmp_path / "out", machine=machine, mode="replace")
    same(root, tmp_path / "out")
    assert altered or alteration == "temporary files were left"  # the dry run changed nothing
    assert (dry.written_files, dry.kept_files) == (result.written_files, result.kept_files)
    lab.check_all()
    lab.restore(tmp_path / "third", lab.take(tmp_path / "out", machine=machine).snapshot.id, machine="c")
    same(root, tmp_path / "third")


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_merge_makes_it_equal_or_says_what_is_in_the_way(lab: Lab, root: Path, tmp_path: Path, alteration: str) -> None:
    """A folder that holds something is not removed by --merge; files that the snapshot lacks stay."""
    make(root)
    copy(lab, root, tmp_path / "out")
    ALTERATIONS[alteration](tmp_path / "out")
    mine = write(tmp_path / "out/mine", "not in the snapshot")
    if alteration.endswith(": a folder"):
        with pytest.raises(TargetNotEmpty, match="is a folder in the target"):
            lab.restore(tmp_path / "out", mode="merge")
        name = alteration.partition(":")[0]
        assert (tmp_path / "out" / name).is_dir()
        assert (tmp_path / "out" / name / "x").exists() == (name in ("file", "link", "twin"))
        return
    lab.restore(tmp_path / "out", mode="merge")
    assert mine.read_text() == "not in the snapshot"
    same(root, tmp_path / "out", ignore=("mine", "elsewhere"))


def test_replace_removes_what_the_snapshot_lacks(lab: Lab, root: Path, tmp_path: Path) -> None:
    make(root)
    write(root / "folder/.torporignore", "*.tmp\n")
    write(root / "folder/x.tmp", "excluded")
    nasty.age(os.fsencode(root))
    lab.take(root, scope={"excludes": ["/scratch"]})
    lab.restore(tmp_path / "out")
    out = tmp_path / "out"
    for name in ("new", "new-folder/deep/file", "folder/new", "folder/y.tmp", "scratch/kept", "__pycache__/kept", "folder/.cache/pip/kept"):
        write(out / name, "x")
    (out / "dangling").symlink_to("nowhere")
    (out / "outside").symlink_to(tmp_path)
    write(tmp_path / "precious", "outside")
    nasty.special(out)
    dry = lab.restore(out, mode="replace", dry_run=True)
    result = lab.restore(out, mode="replace")
    left = set(tree(out)) - set(tree(root))
    assert left == {
        "folder/y.tmp", "scratch", "scratch/kept", "__pycache__", "__pycache__/kept",
        "folder/.cache", "folder/.cache/pip", "folder/.cache/pip/kept",
    } - ({"folder/.cache", "folder/.cache/pip", "folder/.cache/pip/kept"} - left)  # fmt: skip
    assert (tmp_path / "precious").read_text() == "outside"
    assert dry.removed > 0
    assert result.removed >= dry.removed


@pytest.mark.parametrize("mode", ["merge", "replace"])
@pytest.mark.parametrize("deep", [False, True])
def test_nothing_is_written_through_a_link(lab: Lab, root: Path, tmp_path: Path, mode: str, deep: bool) -> None:
    """A link that leads out of the target stands where a folder, or one above a file, must be: it is replaced, never followed."""
    make(root)
    copy(lab, root, tmp_path / "out")
    outside = tmp_path / "outside"
    write(outside / "deep", "of somebody else")
    write(outside / "inside/deep", "of somebody else")
    before = compare_trees(outside, outside), inodes(outside), tree(outside)
    where = tmp_path / "out/folder/inside" if deep else tmp_path / "out/folder"
    shutil.rmtree(where)
    where.symlink_to(outside)
    dry = lab.restore(tmp_path / "out", mode=mode, dry_run=True)
    assert where.is_symlink()
    result = lab.restore(tmp_path / "out", mode=mode)
    assert dry.written_files == result.written_files == 1
    assert (compare_trees(outside, outside), inodes(outside), tree(outside)) == before
    assert {path.read_text() for path in outside.rglob("deep")} == {"of somebody else"}
    same(root, tmp_path / "out")


def test_files_that_are_called_as_temporary_ones_are(lab: Lab, root: Path, tmp_path: Path) -> None:
    """Those of the snapshot stay, and folders do; what a killed restore left goes."""
    write(root / ".torpor-tmp-0123456789abcdef", "a user's")
    write(root / "folder/.torpor-tmp-folder/file", "a user's too")
    nasty.age(os.fsencode(root))
    copy(lab, root, tmp_path / "out")
    (tmp_path / "out/.torpor-tmp-another").mkdir()
    write(tmp_path / "out/folder/.torpor-tmp-fedcba9876543210", "left over")
    lab.restore(tmp_path / "out", mode="merge")
    (tmp_path / "out/.torpor-tmp-another").rmdir()
    os.utime(tmp_path / "out", ns=(0, root.stat().st_mtime_ns))
    same(root, tmp_path / "out")


def test_a_target_that_is_a_link_is_the_folder_it_leads_to(lab: Lab, root: Path, tmp_path: Path) -> None:
    make(root)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    copy(lab, root, tmp_path / "link")
    same(root, tmp_path / "real")
    assert (tmp_path / "link").is_symlink()


def test_by_a_user_without_rights(tmp_path: Path) -> None:
    """Folders and files whose modes shut their owner out are merged into all the same."""
    with as_somebody_else(tmp_path) as folder:
        lab = Lab(folder / "lab")
        root, out = folder / "workspace", folder / "out"
        for name in ("shut/inside/file", "shut/other", "open/file"):
            write(root / name, name)
        write(root / "shut/large", noise(5 * MIB)).chmod(0o444)
        os.link(root / "shut/other", root / "open/link")
        (root / "shut/inside").chmod(0o500)
        (root / "shut").chmod(0o555)
        lab.take(root)
        lab.restore(out)
        same(root, out)
        for path, mode in {"shut": 0o700, "shut/large": 0o600}.items():
            (out / path).chmod(mode)
        poke(out / "shut/large", 0, b"changed")
        write(out / "shut/more", "more")
        for path, mode in {"shut/large": 0o444, "shut/inside": 0, "shut": 0o500}.items():
            (out / path).chmod(mode)
        for path in ("shut/other", "open/file"):
            (out / path).chmod(0)
        lab.restore(out, mode="replace")
        same(root, out)
        (root / "shut").chmod(0o700)  # for the clean-up
        (out / "shut").chmod(0o700)


def lab_for_others(lab: Lab, folder: Path) -> Lab:
    """The same repository from a home that another user may write to, by the recovery key."""
    other = Lab(folder / "lab")
    key = lab.recovery_key
    other.store = lab.store
    other.repository = other.open("home2", TORPOR_RECOVERY_KEY=key)
    return other


if os.geteuid() == 0:

    def test_modes_that_shut_the_owner_out_are_restored_by_the_owner(tmp_path: Path) -> None:
        """Saved by root, restored by somebody else: owners can't be kept, and that is said; bytes and modes are."""
        lab = Lab(tmp_path / "lab")
        root = tmp_path / "workspace"
        root.mkdir()
        for name, mode in {"a": 0, "b": 0o200, "c": 0o444}.items():
            write(root / name, name)
            os.link(root / name, root / f"{name}-link")
            (root / name).chmod(mode)
        (root / "shut").mkdir(mode=0)
        copy(lab, root, tmp_path / "out")
        same(root, tmp_path / "out")
        with as_somebody_else(tmp_path) as folder:
            result = lab_for_others(lab, folder).restore(folder / "out")
            assert any("owners of 5 entries" in note for note in result.notes)
            for name, mode in {"a": 0, "b": 0o200, "c": 0o444, "shut": 0}.items():
                assert (folder / "out" / name).stat().st_mode & 0o7777 == mode
            assert (folder / "out/a").stat().st_ino == (folder / "out/a-link").stat().st_ino
            lab_for_others(lab, folder).restore(folder / "out", mode="merge")
            (folder / "out/a").chmod(0o600)
            assert (folder / "out/a-link").read_text() == "a"
