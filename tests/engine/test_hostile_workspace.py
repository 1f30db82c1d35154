"""A restore into a place where somebody hostile is at work: links planted before, folders exchanged for links while it runs."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.engine.lab import Lab, same, write
from tests.engine.stranger import listing
from torpor.errors import TorporError
from torpor.storage.memory import MemoryStore

MIB = 1 << 20


class Watched(MemoryStore):
    """Calls `before` ahead of each read of a pack; the number of the read, from 0, is passed."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[int], None] = lambda number: None
        self.reads = 0

    def get_into(self, name: str, start: int, out: memoryview) -> None:
        if "/index-" not in name and name.startswith("packs/"):
            number, self.reads = self.reads, self.reads + 1
            self.before(number)
        super().get_into(name, start, out)


class Scene:
    """A snapshot of a tree with folders, small and large files; a target; a canary beside it that must stay as it is."""

    def __init__(self, folder: Path) -> None:
        self.store = Watched()
        self.lab = Lab(folder / "lab", store=self.store)
        self.source = folder / "source"
        for name in ("d", "d/e", "x"):
            write(self.source / name / "small", name * 10)
            write(self.source / name / "large", os.urandom(2 * MIB))
        os.symlink("small", self.source / "d" / "link")
        os.link(self.source / "d" / "small", self.source / "d" / "twin")
        self.lab.take(self.source)
        self.around = folder / "around"
        self.target = self.around / "target"
        self.canary = self.around / "canary"
        for name in ("small", "large", "link", "twin", "e/small", "e/large"):
            write(self.canary / name, b"canary " * 100_000)
        self.before = listing(self.canary)

    def untouched(self) -> None:
        assert listing(self.canary) == self.before
        assert {path.name.removeprefix("target") for path in self.around.iterdir()} <= {"", "canary", "-away"}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def exchange(path: Path, canary: Path) -> None:
    """A folder makes way for a link; it stays beside it."""
    os.rename(path, path.with_name(path.name + "-away"))
    os.symlink(canary, path)


# While a restore runs. The store calls the attacker between any two steps, so nothing is left to luck.


@pytest.mark.parametrize("place", ["", "d", "d/e", "x"])
@pytest.mark.parametrize("read", range(4))
@pytest.mark.parametrize("mode", ["new", "merge"])
def test_a_folder_becomes_a_link(scene: Scene, place: str, read: int, mode: str) -> None:
    if mode == "merge":
        write(scene.target / "mine", b"already here")

    def attack(number: int) -> None:
        path = scene.target / place
        if number == read and path.is_dir() and not path.is_symlink():
            exchange(path, scene.canary)

    scene.store.before = attack
    with suppress(TorporError):
        scene.lab.restore(scene.target, mode=mode)
    assert scene.store.reads > read or read > 1
    scene.untouched()


@pytest.mark.parametrize("name", ["d/small", "d/large", "d/link", "d/twin", "x/large"])
def test_a_file_becomes_a_link(scene: Scene, name: str) -> None:
    """Before it is made, or as soon as it is there."""
    path = scene.target / name

    def attack(number: int) -> None:
        with suppress(FileNotFoundError):
            os.unlink(path)
        if path.parent.is_dir():
            os.symlink(scene.canary / path.name, path)

    scene.store.before = attack
    with suppress(TorporError):
        scene.lab.restore(scene.target)
    scene.untouched()


def test_the_target_itself_moves_away(scene: Scene) -> None:
    """What was begun in a folder is ended in that folder, wherever its name leads by then."""

    def attack(number: int) -> None:
        if number == 0:
            exchange(scene.target, scene.canary)

    scene.store.before = attack
    scene.lab.restore(scene.target)
    scene.untouched()
    same(scene.source, scene.around / "target-away")


def test_folders_and_links_without_end(scene: Scene) -> None:
    """No hook: a thread that exchanges a folder and a link as fast as it can."""
    over = threading.Event()
    away = scene.target / "d-away"
    turns = 0

    def attack() -> None:
        nonlocal turns
        path = scene.target / "d"
        while not over.is_set():
            with suppress(OSError):
                exchange(path, scene.canary)
                turns += 1
                os.unlink(path)
                os.rename(away, path)

    for _ in range(8):
        over.clear()
        thread = threading.Thread(target=attack)
        thread.start()
        try:
            with suppress(TorporError):
                scene.lab.restore(scene.target, mode="merge")
        finally:
            over.set()
            thread.join(timeout=60)
        scene.untouched()
    assert turns > 0


# What stands in the target before.


def plant_link(scene: Scene, name: str, to: Path) -> None:
    path = scene.target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(to, path)


@pytest.mark.parametrize("mode", ["merge", "replace"])
@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("d", ""), ("d/e", "e"), ("x", "missing"), ("d/small", "small"), ("d/large", "large"), ("d/link", "link"), ("d/twin", "twin"),
        (".torpor-restore", "small"), (".torpor-restore.tmp", "small"), (".torpor-restore", "missing"), (".torpor-restore.tmp", "missing"),
        (".torpor-tmp-00", "small"), ("other", ""), ("d/other", "small"),
    ],
)  # fmt: skip
def test_links_that_were_planted(scene: Scene, name: str, to: str, mode: str, dry_run: bool) -> None:
    plant_link(scene, name, scene.canary / to)
    inside = listing(scene.target)
    with suppress(TorporError):
        scene.lab.restore(scene.target, mode=mode, dry_run=dry_run)
    scene.untouched()
    if dry_run:
        assert listing(scene.target) == inside
    elif not name.startswith((".torpor", "other", "d/other")) and not (name == "d/e" and mode == "merge"):
        same(scene.source, scene.target, ignore=("other",))


@pytest.mark.parametrize("name", ["d/small", "d/large", "d/link", "d/twin", ".torpor-restore", "d"])
def test_pipes_that_were_planted(scene: Scene, name: str) -> None:
    """Opening a fifo waits for its other end: nothing may open one."""
    (scene.target / name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(scene.target / name)
    scene.lab.restore(scene.target, mode="replace")
    same(scene.source, scene.target)
    scene.untouched()


def test_a_snapshot_that_holds_the_marks_own_name(scene: Scene) -> None:
    """A link of the name that a restore once wrote its mark by; the restore is interrupted and goes on."""
    os.symlink(scene.canary / "small", scene.source / ".torpor-restore.tmp")
    scene.lab.take(scene.source)
    scene.lab.restore(scene.target)
    write(scene.target / ".torpor-restore", json.dumps({"snapshot": "another"}))
    scene.lab.restore(scene.target, mode="merge")
    same(scene.source, scene.target)
    scene.untouched()


def test_a_target_that_is_a_link_is_followed_once(scene: Scene) -> None:
    """People have /workspace lead to a larger disk."""
    (scene.around / "target-away").mkdir()
    os.symlink("target-away", scene.target)
    scene.lab.restore(scene.target)
    same(scene.source, scene.around / "target-away")
    scene.untouched()
