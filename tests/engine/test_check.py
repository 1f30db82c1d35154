"""The final check before a machine goes: whatever changed since the snapshot is named, and what is held open for writing."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.alterations import instead
from tests.engine.lab import Lab, let_age, write
from torpor.control import destroy
from torpor.errors import NotFound
from torpor.events import ignore
from torpor.jobs import CheckResult, Scope
from torpor.testing import nasty
from torpor.testing.samples import noise

MIB = 1 << 20


def check(lab: Lab, root: Path, ignore_changes: tuple[str, ...] = (), snapshot: str = "") -> CheckResult:
    accept = destroy.Acceptance(ignore_changes=list(ignore_changes))
    wanted = snapshot or max(lab.objects("snapshots/"))[len("snapshots/") : -len(".json")]
    return destroy.final_check(lab.repository, lab.host, Scope(roots=[os.fsencode(root)]), lab.state("a"), wanted, accept, ignore)


def make(root: Path) -> None:
    write(root / "small", "small")
    write(root / "large", noise(5 * MIB))
    write(root / "void", "")
    write(root / "folder/inside", "inside")
    os.link(root / "small", root / "twin")
    nasty.sparse(os.fsencode(root / "holes"), 9 * MIB, (0, b"data"))
    (root / "link").symlink_to("small")
    nasty.age(os.fsencode(root))


def poke(path: Path, offset: int, data: bytes) -> None:
    """Write, and put the mtime back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path, by: Callable[[Path], object]) -> None:
    """Another file of the same name and mtime, its folder's mtime put back too."""
    before, above = path.lstat(), path.parent.stat()
    path.unlink()
    by(path)
    os.utime(path, ns=(0, before.st_mtime_ns), follow_symlinks=False)
    os.utime(path.parent, ns=(0, above.st_mtime_ns))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte": (lambda p: poke(p / "small", 0, b"S"), "changed: {}/small"),
    "a byte of a large file": (lambda p: poke(p / "large", 4 * MIB, b"S"), "changed: {}/large"),
    "a hole was written to": (lambda p: poke(p / "holes", 6 * MIB, b"S"), "changed: {}/holes"),
    "zeros where a hole was": (lambda p: poke(p / "holes", 6 * MIB, bytes(4096)), "changed: {}/holes"),
    "longer": (lambda p: poke(p / "void", 0, b"S"), "changed: {}/void"),
    "a new file": (lambda p: write(p / "folder/new", "x"), "new: {}/folder/new"),
    "a new empty folder": (lambda p: (p / "new").mkdir(), "new: {}/new"),
    "gone": (lambda p: (p / "folder/inside").unlink(), "gone: {}/folder/inside"),
    "a folder gone": (lambda p: shutil.rmtree(p / "folder"), "gone: {}/folder"),
    "a link leads elsewhere": (lambda p: replace(p / "link", lambda q: q.symlink_to("large")), "changed: {}/link"),
    "a link became a file": (lambda p: replace(p / "link", lambda q: q.write_text("small")), "changed: {}/link"),
    "a hard link became another file": (lambda p: replace(p / "twin", lambda q: q.write_text("other")), "changed: {}/twin"),
    "a file became a fifo": (instead("void", os.mkfifo), "gone: {}/void"),
    "permissions": (lambda p: (p / "small").chmod(0o600), "changed: {}/small"),
    "an attribute": (lambda p: os.setxattr(p / "large", "user.x", b"1"), "changed: {}/large"),
    "a folder's permissions": (lambda p: (p / "folder").chmod(0o700), "changed: {}/folder"),
    "another name": (lambda p: os.link(p / "large", p / "folder/large"), "new: {}/folder/large"),
}


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace for each change, all so old that their records are trusted by their times."""
    folder = tmp_path_factory.mktemp("aged")
    for number in range(len(CHANGES)):
        (folder / f"{number}").mkdir()
        make(folder / f"{number}")
    let_age(folder)
    return folder


@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_named(lab: Lab, root: Path, aged: Path, change: str, later: bool) -> None:
    """At once, while the clock may show the time of the snapshot still; and when the record is trusted by its times."""
    if later:
        root = aged / f"{list(CHANGES).index(change)}"
    else:
        make(root)
    lab.take(root)
    clean = check(lab, root)
    assert (clean.changed, clean.changed_paths, clean.problems, clean.open_files) == (0, [], [], [])
    act, expected = CHANGES[change]
    act(root)
    found = check(lab, root)
    assert expected.format(root) in found.changed_paths
    assert found.changed == len(found.changed_paths) > 0
    name = expected.partition("{}/")[2]
    some = check(lab, root, (os.path.basename(name), str(root), f"{root}/folder*"))
    assert not any(line.endswith("/" + name) for line in some.changed_paths)
    lab.take(root)
    assert check(lab, root).changed == 0


def test_only_the_snapshot_that_this_machine_made_last(lab: Lab, root: Path) -> None:
    write(root / "file", "x")
    first = lab.take(root).snapshot.id
    second = lab.take(root).snapshot.id
    with pytest.raises(NotFound, match="no record"):
        check(lab, root, snapshot=first)
    assert check(lab, root, snapshot=second).changed == 0


def test_torn_and_absent_files_stay_what_they_were(lab: Lab, root: Path) -> None:
    """A fifo, and a file that vanished, are not found anew by each check."""
    make(root)
    nasty.special(root)
    lab.take(root)
    assert check(lab, root).changed == 0


HOLDER = (
    "import mmap, os, sys\n"
    "file = open(sys.argv[1], sys.argv[2])\n"
    "held = mmap.mmap(file.fileno(), 0) if sys.argv[3] == 'map' else None\n"
    "if held: file.close()\n"
    "print(flush=True)\nsys.stdin.readline()\n"
)


@pytest.mark.parametrize(
    ("mode", "how", "named"), [("rb", "open", False), ("r+b", "open", True), ("ab", "open", True), ("r+b", "map", True)]
)
@pytest.mark.parametrize("single", [False, True], ids=["in a folder", "as a root"])
@pytest.mark.parametrize("name", ["file", "new\nline", "spaces  and \\ back"])
def test_who_may_still_write(lab: Lab, root: Path, mode: str, how: str, named: bool, single: bool, name: str) -> None:
    path = write(root / name, b"x" * mmap.PAGESIZE)
    taken = path if single else root
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path), mode, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        lab.take(taken)
        found = check(lab, taken).open_files
        holder.communicate(b"\n")
    shown = str(path).replace("\n", "\\n")
    assert [line.partition(" (")[0] for line in found] == ([f"{shown}: {_name_of()}"] if named else [])
    assert check(lab, taken).open_files == []


def _name_of() -> str:
    """What the kernel calls a child of this interpreter."""
    done = subprocess.run([sys.executable, "-c", "print(open('/proc/self/comm').read())"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_another_workspace_of_the_machine(lab: Lab, root: Path) -> None:
    """It would go with the machine, and no snapshot of this one has it."""
    first, second = root / "first", root / "second"
    for folder in (first, second):
        write(folder / "file", folder.name)
        nasty.age(os.fsencode(folder))
        taken = lab.take(folder)
    found = check(lab, second)
    assert found.problems == [f"elsewhere: {first}"]
    assert destroy.refused_problems(taken.result, found, destroy.Acceptance()) == found.problems
    assert destroy.refused_problems(taken.result, found, destroy.Acceptance(accept=[str(first)])) == []
    shutil.rmtree(first)
    assert check(lab, second).problems == []
    lab.take(root)
    assert check(lab, root).problems == [], "what lies in it is saved with it"
