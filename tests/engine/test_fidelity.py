"""A restored tree is the tree that was saved, in all that a snapshot promises to keep."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.engine.lab import Lab, let_age, same, write
from torpor.control.snapshots import Taken
from torpor.jobs import RestoreResult
from torpor.testing import nasty
from torpor.testing.compare import compare_trees, data_map

ROOT = os.geteuid() == 0
# What only root can read has a test of its own.
PARTS = [part for part in nasty.PARTS if ROOT or part != "modes"]


class Restored(NamedTuple):
    lab: Lab
    source: Path
    copy: Path
    taken: Taken
    result: RestoreResult
    again: Taken


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Restored:
    """Everything nasty, saved, restored with --setuid on another machine, and saved from there."""
    folder = tmp_path_factory.mktemp("nasty")
    nasty.make(folder / "source", PARTS)
    lab = Lab(folder / "lab")
    taken = lab.take(folder / "source")
    result = lab.restore(folder / "copy", setuid=True)
    return Restored(lab, folder / "source", folder / "copy", taken, result, lab.take(folder / "copy", machine="b"))


@pytest.mark.parametrize("part", PARTS)
def test_what_was_saved_comes_back(restored: Restored, part: str) -> None:
    same(restored.source / part, restored.copy / part)


def test_the_whole_comes_back(restored: Restored) -> None:
    """Hard links over all parts, the root itself, and no file more."""
    same(restored.source, restored.copy)
    assert not any(restored.taken.result.problems.values())
    assert restored.result.notes == []


def test_counts_are_those_of_the_tree(restored: Restored) -> None:
    files = folders = links = size = 0
    seen: set[int] = set()
    for folder, names, others in os.walk(os.fsencode(restored.source)):
        folders += 1
        for name in (*others, *(name for name in names if os.path.islink(folder + b"/" + name))):
            status = os.lstat(folder + b"/" + name)
            if os.path.islink(folder + b"/" + name) or status.st_ino in seen:
                links += 1
                continue
            seen.add(status.st_ino)
            files += 1
            size += status.st_size
    manifest = restored.taken.snapshot.manifest
    assert (manifest.files, manifest.directories, manifest.links, manifest.raw_bytes) == (files, folders, links, size)
    assert (restored.result.files, restored.result.directories, restored.result.links) == (files, folders, links)


def test_holes_cost_nothing(restored: Restored) -> None:
    """A file of 8 GB with 3 MB in it is stored, fetched and written as 3 MB."""
    huge = restored.copy / "holes" / "huge"
    assert huge.stat().st_size == 8 * nasty.GIB
    assert huge.stat().st_blocks * 512 < 4 * nasty.MIB
    assert restored.result.fetched_bytes < 100 * nasty.MIB
    assert restored.taken.snapshot.manifest.stored_bytes < 100 * nasty.MIB


def test_every_byte_is_proven(restored: Restored) -> None:
    for snapshot in restored.lab.check_all():
        verified = restored.lab.verify(snapshot)
        assert verified.read_packs == verified.packs > 0


def test_the_first_snapshot_after_a_restore_reads_nothing(restored: Restored) -> None:
    """Not even files of the far future, or of before 1970; and it goes on in the same lineage."""
    again = restored.again
    assert (again.result.read_files, again.result.read_bytes) == (0, 0)
    assert again.snapshot.manifest.new_bytes == again.snapshot.manifest.index.size
    assert again.snapshot.manifest.lineage == restored.taken.snapshot.manifest.lineage
    assert (again.snapshot.manifest.generation, again.snapshot.manifest.parent) == (2, restored.taken.snapshot.id)


def test_that_snapshot_is_the_same_tree(restored: Restored) -> None:
    target = restored.copy.with_name("third")
    restored.lab.restore(target, restored.again.snapshot.id, machine="c", setuid=True)
    same(restored.source, target)


def test_rights_are_given_only_when_asked(lab: Lab, root: Path, tmp_path: Path) -> None:
    for mode in (0o4755, 0o2755, 0o1755):
        write(root / f"file-{mode:o}", "x").chmod(mode)
        (root / f"folder-{mode:o}").mkdir()
        (root / f"folder-{mode:o}").chmod(mode)
    lab.take(root)
    lab.restore(tmp_path / "plain")
    found = {path.name: path.stat().st_mode & 0o7777 for path in sorted((tmp_path / "plain").iterdir())}
    assert found == {
        "file-1755": 0o1755, "file-2755": 0o755, "file-4755": 0o755,
        "folder-1755": 0o1755, "folder-2755": 0o2755, "folder-4755": 0o755,
    }  # fmt: skip
    lab.restore(tmp_path / "asked", setuid=True)
    same(root, tmp_path / "asked")


def test_owners_by_name_or_not_at_all(lab: Lab, root: Path, tmp_path: Path) -> None:
    write(root / "file", "x")
    if ROOT:
        os.chown(root / "file", 12_345, 54_321)
    lab.take(root)
    lab.restore(tmp_path / "none", owners="none")
    assert ((tmp_path / "none/file").stat().st_uid, (tmp_path / "none/file").stat().st_gid) == (os.geteuid(), os.getegid())
    lab.restore(tmp_path / "names", owners="names")  # numbers that have no name here stay numbers
    same(root, tmp_path / "names")


@pytest.mark.parametrize("codec", ["raw", "zstd", "lz4"])
def test_every_codec(lab: Lab, root: Path, tmp_path: Path, codec: str) -> None:
    nasty.make(root / "in", ["arrays", "hardlinks"])
    lab.take(root, codec=codec, compare=True)
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


def test_without_encryption(root: Path, tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", encryption="none")
    nasty.make(root / "in", ["links", "hardlinks", "names"])
    lab.take(root)
    lab.check_all()
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


def test_many_entries_in_little_memory(lab: Lab, root: Path, tmp_path: Path) -> None:
    """More entries than one section holds, and hard links to files of an earlier one."""
    for folder in range(4):
        (root / f"{folder}").mkdir()
    for folder in range(4):
        for number in range(1000):
            nasty.write(os.fsencode(root / f"{folder}" / f"{number}"), b"%d" % (number % 100))
        for number in range(16_000):
            os.link(root / f"{folder}" / f"{number % 500}", root / f"{3 - folder}" / f"link-{folder}-{number}")
    taken = lab.take(root, memory=384 << 20)
    assert (taken.snapshot.manifest.files, taken.snapshot.manifest.links) == (4000, 64_000)
    lab.restore(tmp_path / "out", memory=384 << 20)
    same(root, tmp_path / "out")


def test_an_empty_root(lab: Lab, root: Path, tmp_path: Path) -> None:
    taken = lab.take(root)
    assert (taken.snapshot.manifest.entries, taken.snapshot.manifest.packs) == (1, 0)
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")
    assert lab.check_all()


def test_files_of_holes_alone_need_no_pack(lab: Lab, root: Path, tmp_path: Path) -> None:
    nasty.sparse(os.fsencode(root / "all"), 3 << 30)
    assert lab.take(root).snapshot.manifest.packs == 0
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")
    with (tmp_path / "out" / "all").open("rb") as file:
        assert list(data_map(file.fileno())) == []


def test_unchanged_holes_and_links_are_not_read_again(lab: Lab, root: Path, tmp_path: Path) -> None:
    nasty.make(root / "in", ["holes", "hardlinks", "links", "attributes", "acls", "empty"])
    let_age(root)
    lab.take(root)
    second = lab.take(root)
    assert (second.result.read_files, second.snapshot.manifest.new_bytes) == (0, second.snapshot.manifest.index.size)
    lab.restore(tmp_path / "out")
    assert compare_trees(root, tmp_path / "out") == []
