"""The second snapshot: what changed is noticed, however little of it shows, and what did not is neither read nor stored."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.alterations import Act, each
from tests.engine.lab import Lab, let_age, same, write
from torpor.control.snapshots import Taken
from torpor.testing import nasty
from torpor.testing.samples import noise, text, weights

MIB = 1 << 20


def stored(taken: Taken) -> int:
    """Bytes of packs that a snapshot wrote: all but its index."""
    return taken.snapshot.manifest.new_bytes - taken.snapshot.manifest.index.size


SIZES = pytest.mark.parametrize("size", [64, 5 * MIB], ids=["small", "large"])


@SIZES
def test_a_change_within_one_tick_is_noticed(lab: Lab, root: Path, tmp_path: Path, size: int) -> None:
    """Same size, same mtime, same inode, and a ctime that a coarse clock may not tell from the first: it is read again."""
    path = root / "file"
    for number in range(8):
        path.write_bytes(noise(size, number))
        os.utime(path, ns=(0, nasty.OLD))
        before = path.stat()
        lab.take(root)
        with path.open("r+b") as file:
            file.write(noise(size, number + 100))
        os.utime(path, ns=(0, nasty.OLD))
        after = path.stat()
        assert (before.st_size, before.st_mtime_ns, before.st_ino) == (after.st_size, after.st_mtime_ns, after.st_ino)
        taken = lab.take(root)
        lab.restore(tmp_path / taken.snapshot.id)
        same(root, tmp_path / taken.snapshot.id)


@SIZES
def test_a_change_that_hides_is_noticed(lab: Lab, root: Path, tmp_path: Path, size: int) -> None:
    """Long after the first snapshot, by a program that puts size and mtime back: the ctime can't be put back."""
    path = write(root / "file", noise(size, 1))
    let_age(root)
    lab.take(root)
    before = path.stat()
    with path.open("r+b") as file:
        file.write(noise(size, 2))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    lab.take(root)
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        lambda p: os.utime(p, ns=(0, 5)),
        lambda p: p.chmod(0o600),
        lambda p: os.setxattr(p, "user.x", b"new"),
        lambda p: os.setxattr(p, *nasty.acl(user=5)),
        lambda p: os.chown(p, 77, 78) if os.geteuid() == 0 else p.chmod(0o640),
        lambda p: os.link(p, p.with_name("another-name")),
    ],
    ids=["touch", "chmod", "attribute", "ACL", "chown", "link"],
)
def test_what_changes_beside_the_bytes(lab: Lab, root: Path, tmp_path: Path, change: Callable[[Path], object]) -> None:
    """It is saved; the bytes are not stored again."""
    for name in ("small", "large", "empty"):
        write(root / name, noise(5 * MIB)[: {"small": 1000, "large": 5 * MIB, "empty": 0}[name]])
    lab.take(root)
    for name in ("small", "large", "empty"):
        if "another-name" not in os.listdir(root):
            change(root / name)
    second = lab.take(root)
    assert stored(second) == 0
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


def test_what_moves_is_not_stored_again(lab: Lab, root: Path, tmp_path: Path) -> None:
    write(root / "big", weights("bf16", 30 * MIB))
    for number in range(30):
        write(root / "from" / f"{number}.py", text(3000, number))
        write(root / "from" / f"{number}.bin", noise(3000, number))
    first = lab.take(root)
    (root / "big").rename(root / "renamed")
    (root / "from").rename(root / "to")
    (root / "to/3.py").rename(root / "3.bin")  # another class of pack
    second = lab.take(root)
    assert stored(second) == 0
    assert second.snapshot.manifest.packs == first.snapshot.manifest.packs
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


def test_what_is_there_twice_is_stored_once(lab: Lab, root: Path, tmp_path: Path) -> None:
    big, little = noise(10 * MIB), noise(5000)
    write(root / "one", big)
    write(root / "x/small", little)
    first = lab.take(root)
    for number in range(5):
        write(root / f"copy-{number}", big)
        write(root / f"x/copy-{number}", little)
    write(root / "half", big[: 8 * MIB] + little)  # its first two steps are the same
    second = lab.take(root)
    assert stored(second) < 10_000
    once = Lab(tmp_path / "other")
    together = once.take(root)
    assert stored(together) < stored(first) + 10_000
    for name, source in {"out": lab, "out2": once}.items():
        source.restore(tmp_path / name)
        same(root, tmp_path / name)


def test_only_the_changed_steps_of_a_large_file_are_stored(lab: Lab, root: Path, tmp_path: Path) -> None:
    path = write(root / "big", noise(40 * MIB))
    lab.take(root)
    with path.open("r+b") as file:
        file.seek(13 * MIB)
        file.write(b"changed")
    second = lab.take(root)
    assert 4 * MIB < stored(second) < 4 * MIB + 1000
    with path.open("ab") as file:
        file.write(noise(MIB, 3))
    third = lab.take(root)
    assert MIB < stored(third) < MIB + 1000
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


def test_a_grown_header_shifts_nothing(lab: Lab, root: Path, tmp_path: Path) -> None:
    """The steps of a safetensors file begin at its tensors."""
    body = weights("bf16", 20 * MIB)
    header = b'{"w":{"dtype":"BF16","shape":[%d],"data_offsets":[0,%d]}}' % (len(body) // 2, len(body))
    write(root / "model.safetensors", nasty.safetensors(header, body))
    lab.take(root)
    write(root / "model.safetensors", nasty.safetensors(header + b" " * 1001, body))
    assert stored(lab.take(root)) < 10_000
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


def test_one_new_small_file_stores_itself_alone(lab: Lab, root: Path) -> None:
    for number in range(500):
        write(root / f"{number:03d}.bin", noise(20_000, number))
    lab.take(root)
    write(root / "250a.bin", noise(20_000, 1000))
    assert 20_000 < stored(lab.take(root)) < 21_000


def test_an_unchanged_workspace_is_not_read(lab: Lab, root: Path) -> None:
    for number in range(20):
        write(root / f"{number}.bin", noise(20_000, number))
    write(root / "big", noise(9 * MIB))
    let_age(root)
    lab.take(root)
    second = lab.take(root)
    assert (second.result.read_files, second.result.read_bytes, stored(second)) == (0, 0, 0)
    rescan = lab.take(root, rescan=True)
    assert (rescan.result.read_files, stored(rescan)) == (21, 0)


@pytest.mark.parametrize("trouble", ["gone", "cut off", "other bytes", "empty", "of another rental"])
def test_a_lost_record_costs_only_time(lab: Lab, root: Path, tmp_path: Path, trouble: str) -> None:
    """Nothing is trusted then: all is read and stored again, and restored the same."""
    write(root / "file", noise(3 * MIB))
    first = lab.take(root)
    (record,) = (Path(os.fsdecode(lab.state("a"))) / "records").iterdir()
    if trouble == "gone":
        record.unlink()
    elif trouble == "cut off":
        record.write_bytes(record.read_bytes()[:-30])
    elif trouble == "other bytes":
        data = bytearray(record.read_bytes())
        data[len(data) // 3] ^= 0xFF
        record.write_bytes(data)
    elif trouble == "empty":
        record.write_bytes(b"")
    else:
        shutil.rmtree(Path(os.fsdecode(lab.state("a"))) / "journals")
        (Path(os.fsdecode(lab.state("a"))) / "rental").unlink()
    second = lab.take(root)
    assert stored(second) >= 3 * MIB
    assert (second.snapshot.manifest.lineage == first.snapshot.manifest.lineage) == (trouble != "of another rental")
    lab.check_all()
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


def test_every_byte_of_a_damaged_record(lab: Lab, root: Path, tmp_path: Path) -> None:
    """Whatever a disk makes of the record: the snapshot is of the files as they are, or fails; it is never of other bytes."""
    for number in range(3):
        write(root / f"{number}.bin", noise(2000, number))
    write(root / "big", noise(MIB + 5))
    let_age(root)
    lab.take(root)
    (record,) = (Path(os.fsdecode(lab.state("a"))) / "records").iterdir()
    whole = record.read_bytes()
    write(root / "1.bin", noise(2000, 77))
    for at in range(0, len(whole), max(1, len(whole) // 25)):
        data = bytearray(whole)
        data[at] ^= 0x11
        record.write_bytes(data)
        taken = lab.take(root)
        out = tmp_path / f"{at}"
        lab.restore(out, taken.snapshot.id)
        same(root, out)


def test_kinds_that_change_places(lab: Lab, root: Path, tmp_path: Path) -> None:
    """A file becomes a folder, a folder a link, a link a file; names come, go and sort anew."""
    write(root / "a", "file")
    write(root / "b/inside", "folder")
    (root / "c").symlink_to("a")
    write(root / "a.b", "sorts between")
    lab.take(root)
    (root / "a").unlink()
    write(root / "a/inside", "folder now")
    shutil.rmtree(root / "b")
    (root / "b").symlink_to("a")
    (root / "c").unlink()
    write(root / "c", "file now")
    write(root / "a-b", "new")
    lab.take(root)
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


def test_links_that_come_and_go(lab: Lab, root: Path, tmp_path: Path) -> None:
    """The first name of an inode, which is read, is another one in each snapshot."""
    write(root / "m", noise(2 * MIB))
    lab.take(root)
    steps: list[Act] = [
        lambda p: os.link(p / "m", p / "z"),
        lambda p: os.link(p / "m", p / "a"),
        lambda p: (p / "m").unlink(),
        lambda p: (p / "a").unlink(),
        each(lambda p: shutil.copy2(p / "z", p / "b"), lambda p: (p / "z").unlink()),
    ]
    for number, step in enumerate(steps):
        step(root)
        assert stored(lab.take(root)) == 0
        lab.restore(tmp_path / f"{number}")
        same(root, tmp_path / f"{number}")


def test_holes_that_come_and_go(lab: Lab, root: Path, tmp_path: Path) -> None:
    path = root / "file"
    nasty.sparse(os.fsencode(path), 16 * MIB, (0, noise(MIB)), (15 * MIB, b"x"))
    lab.take(root)
    with path.open("r+b") as file:
        file.seek(7 * MIB)
        file.write(b"where a hole was")
    lab.take(root)
    lab.restore(tmp_path / "filled")
    same(root, tmp_path / "filled")
    with path.open("r+b") as file:
        file.write(bytes(16 * MIB))  # all zeros, and no hole
    lab.take(root)
    lab.restore(tmp_path / "whole")
    same(root, tmp_path / "whole")
    path.unlink()
    nasty.sparse(os.fsencode(path), 16 * MIB)
    lab.take(root)
    lab.restore(tmp_path / "none")
    same(root, tmp_path / "none")
