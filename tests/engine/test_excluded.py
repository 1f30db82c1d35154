"""What is left out of a snapshot: by the user's words, by .torporignore, and torpor's own folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engine.lab import Lab, write
from tests.engine.test_scope import tree
from torpor.control import destroy, snapshots
from torpor.control.snapshots import Taken
from torpor.errors import UsageError
from torpor.events import ignore
from torpor.jobs import Scope
from torpor.testing.compare import compare_trees
from torpor.testing.samples import noise

MIB = 1 << 20


# excludes

FILES = (
    "a.py", "b.log", "keep.log", "data/x.bin", "data/y.txt", "data/deep/x.bin", "build/out", "src/build/out", "src/b.log", "src/c.tmp",
    "__pycache__/m.pyc", "src/__pycache__/n.pyc", ".cache/pip/wheel", ".cache/other", "src/.cache/uv/x",
)  # fmt: skip
EVERYTHING = set(FILES)
DEFAULT = EVERYTHING - {"__pycache__/m.pyc", "src/__pycache__/n.pyc", ".cache/pip/wheel", "src/.cache/uv/x"}


@pytest.mark.parametrize(
    ("ignores", "scope", "kept"),
    [
        ({}, {}, DEFAULT),
        ({}, {"default_excludes": False}, EVERYTHING),
        ({}, {"excludes": ["*.log", "!keep.log"]}, DEFAULT - {"b.log", "src/b.log"}),
        ({}, {"excludes": ["/build/"]}, DEFAULT - {"build/out"}),
        ({}, {"excludes": ["build"]}, DEFAULT - {"build/out", "src/build/out"}),
        ({}, {"excludes": ["data/**/x.bin"]}, DEFAULT - {"data/x.bin", "data/deep/x.bin"}),
        ({"": "*.log\n# a comment\n\n!keep.log\n"}, {}, DEFAULT - {"b.log", "src/b.log"}),
        ({"data": "/x.bin\n"}, {}, DEFAULT - {"data/x.bin"}),
        ({"data": "deep/\n", "src": "*.tmp\n*.log"}, {}, DEFAULT - {"data/deep/x.bin", "src/b.log", "src/c.tmp"}),
        ({"": "data/*", "data": "y.txt"}, {"excludes": ["a.py"]}, DEFAULT - {"a.py", "data/x.bin", "data/y.txt", "data/deep/x.bin"}),
        ({"": "*"}, {}, set()),
    ],
)
def test_excludes(lab: Lab, root: Path, tmp_path: Path, ignores: dict[str, str], scope: dict[str, object], kept: set[str]) -> None:
    for name in FILES:
        write(root / name, name)
    expected = set(kept)
    for folder, text in ignores.items():
        write(root / folder / ".torporignore", text)
        expected.add(str(Path(folder, ".torporignore")))  # it is never left out itself
    lab.take(root, scope=scope)
    lab.restore(tmp_path / "out")
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == expected
    # With --replace, what was excluded is left alone, what the snapshot lacks goes.
    for name in FILES:
        write(tmp_path / "out" / name, "of the target")
    write(tmp_path / "out/extra.py", "not in the snapshot")
    lab.restore(tmp_path / "out", mode="replace")
    left = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left == EVERYTHING | expected | ({"extra.py"} if not kept else set())


@pytest.mark.parametrize("kind", ["folder", "fifo", "link", "empty", "bytes"])
def test_what_is_called_torporignore_and_is_none(lab: Lab, root: Path, tmp_path: Path, kind: str) -> None:
    write(root / "file", "*")
    path = root / ".torporignore"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("file")
    else:
        write(path, b"" if kind == "empty" else b"\xff\xfe*.x\n\x00\n  \n")
    lab.take(root)
    lab.restore(tmp_path / "out")
    assert compare_trees(root, tmp_path / "out", ignore=(".torporignore",) if kind == "fifo" else ()) == []


def test_a_pattern_that_does_not_parse(lab: Lab, root: Path) -> None:
    write(root / "file", "x")
    with pytest.raises(UsageError, match="does not parse"):
        lab.take(root, scope={"excludes": ["!"]})
    assert lab.objects("snapshots/") == {}
    write(root / "sub/.torporignore", "!")  # somebody else's words end nothing
    assert lab.take(root).snapshot.manifest.files == 2


def test_torpors_own_folders_are_left_out(lab: Lab, root: Path, tmp_path: Path) -> None:
    """A store, keys, or this host's records inside the workspace; a snapshot would hold all those before it."""
    write(root / "file", "kept")
    write(root / "deep/store/packs/0", noise(MIB))
    (root / "link").symlink_to("deep")
    told: list[str] = []
    state = os.fsencode(root / "state")

    def take() -> Taken:
        wanted = Scope(roots=[os.fsencode(root)], leave=[os.fsencode(root / "link/store"), b"/nowhere"])
        return snapshots.take(
            lab.repository,
            lab.host,
            wanted,
            state,
            snapshots.Options(),
            lambda event: told.append(event.text) if event.kind == "note" else None,
        )

    taken = [take(), take()][-1]
    assert taken.snapshot.manifest.files == 1
    assert len([text for text in told if f"Left out: {root}/deep/store, " in text]) == 2
    lab.restore(tmp_path / "out")
    assert tree(tmp_path / "out") == ["deep", "file", "link"]
    scope = Scope(roots=[os.fsencode(root)], leave=[os.fsencode(root / "deep/store")])
    check = destroy.final_check(lab.repository, lab.host, scope, state, taken.snapshot.id, destroy.Acceptance(), ignore)
    assert check.problems == [f"own: {root}/deep/store"]  # it would go with the machine; the records may
