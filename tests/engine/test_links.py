"""Names of one file, while the workspace is at work: each is saved with the bytes it has, whatever becomes of the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engine.lab import Lab, same, write
from tests.engine.test_problems import at_end_of_scan, named
from torpor.events import Event
from torpor.native import kernels
from torpor.testing.samples import noise

MIB = 1 << 20


@pytest.fixture(params=["compiled", "by hand"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    if request.param == "by hand":
        monkeypatch.setattr(kernels, "library", lambda: None)
    return Lab(tmp_path / "lab")


def several(path: Path, data: bytes, *others: Path) -> None:
    write(path, data)
    for other in others:
        other.parent.mkdir(exist_ok=True)
        os.link(path, other)


SIZES = pytest.mark.parametrize("size", [1000, 2 * MIB], ids=["small", "large"])


@SIZES
def test_a_number_that_is_used_again(lab: Lab, root: Path, tmp_path: Path, size: int) -> None:
    """Files are deleted while a snapshot walks, and a new one gets the number of one that was read: ext4 gives it at once."""
    several(root / "a1", noise(size, 1), root / "a2")
    several(root / "z1", noise(size, 2), root / "z2")
    for number in range(300):
        write(root / "m" / f"{number}", "x")

    def listen(event: Event) -> None:
        if event.kind == "progress" and event.stage == "scan" and (root / "a1").exists():
            for name in ("z1", "z2", "a1", "a2"):
                (root / name).unlink()
            several(root / "z1", noise(size, 3), root / "z2")

    taken = lab.take(root, listen=listen)
    assert not (root / "a1").exists()
    lab.restore(tmp_path / "out")
    for name in ("z1", "z2"):  # the walk may come by just when it is not there
        assert str(root / name) in named(taken, "vanished") or (tmp_path / "out" / name).read_bytes() == noise(size, 3)
    lab.take(root)
    lab.restore(tmp_path / "again")
    same(root, tmp_path / "again")


@SIZES
@pytest.mark.parametrize("others", [1, 3])
def test_a_first_name_that_becomes_another_files(lab: Lab, root: Path, tmp_path: Path, size: int, others: int) -> None:
    """Editors write a new file and rename it: the other names keep the old bytes, and stay names of one file."""
    several(root / "a", noise(size, 1), *(root / f"z{number}" / "name" for number in range(others)))

    def rename() -> None:
        write(root / "new", noise(size, 2))
        (root / "new").rename(root / "a")

    taken = lab.take(root, listen=at_end_of_scan(rename))
    assert not any(taken.result.problems.values())
    assert taken.snapshot.manifest.links in (others - 1, others)  # a large one was opened in time
    lab.check_all()
    lab.restore(tmp_path / "out")
    assert (tmp_path / "out/a").read_bytes() == noise(size, 2 if taken.snapshot.manifest.links < others else 1)
    for number in range(others):
        path = tmp_path / "out" / f"z{number}/name"
        assert path.read_bytes() == noise(size, 1)
        assert path.samefile(tmp_path / "out/z0/name")


@SIZES
def test_a_file_that_is_written_to_has_its_names_still(lab: Lab, root: Path, tmp_path: Path, size: int) -> None:
    several(root / "a", noise(size, 1), root / "b", root / "c")

    def change() -> None:
        with (root / "b").open("r+b") as file:
            file.write(b"changed")

    taken = lab.take(root, listen=at_end_of_scan(change))
    assert taken.snapshot.manifest.links == 2
    lab.restore(tmp_path / "out")
    assert (tmp_path / "out" / "c").read_bytes() == (root / "c").read_bytes()


def test_a_link_that_is_made_meanwhile(lab: Lab, root: Path, tmp_path: Path) -> None:
    several(root / "a", noise(1000), root / "z")
    for number in range(600):
        write(root / "m" / f"{number}", "x")

    def listen(event: Event) -> None:
        if event.kind == "progress" and event.stage == "scan" and not (root / "late").exists():
            os.link(root / "a", root / "late")

    assert not any(lab.take(root, listen=listen).result.problems.values())
    lab.restore(tmp_path / "out")
    for name in ("a", "z"):
        assert (tmp_path / "out" / name).read_bytes() == noise(1000)


@SIZES
@pytest.mark.parametrize("gone", ["a", "d/b", "d/c"])
def test_a_name_that_vanishes(lab: Lab, root: Path, tmp_path: Path, size: int, gone: str) -> None:
    """The first one as any other: the bytes are there by another name."""
    several(root / "a", noise(size), root / "d/b", root / "d/c")
    taken = lab.take(root, listen=at_end_of_scan((root / gone).unlink))
    # a large one was opened in time, and may have been read by then
    assert named(taken, "vanished") in [[str(root / gone)], *([[]] if size > MIB else [])]
    lab.restore(tmp_path / "out")
    for name in {"a", "d/b", "d/c"} - {gone}:
        assert (tmp_path / "out" / name).read_bytes() == noise(size)
    left = sorted({"a", "d/b", "d/c"} - {gone})
    assert os.path.samefile(tmp_path / "out" / left[0], tmp_path / "out" / left[1])


def test_all_names_vanish(lab: Lab, root: Path, tmp_path: Path) -> None:
    names = ("a", "b", "c")
    several(root / "a", noise(1000), root / "b", root / "c")
    write(root / "kept", "x")

    def delete() -> None:
        for name in names:
            (root / name).unlink()

    taken = lab.take(root, listen=at_end_of_scan(delete))
    assert named(taken, "vanished") == [str(root / name) for name in names]
    lab.restore(tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["kept"]
