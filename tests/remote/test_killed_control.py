"""`kill -9` of the control side at many moments: the job goes on, the next process follows it, and no byte is sent or fetched twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.emulators.door import Door
from tests.engine.lab import Lab, same, write
from tests.remote.gear import ROOT, lasting
from torpor.control import catalogue
from torpor.errors import TargetNotEmpty
from torpor.format import names
from torpor.remote.host import InProcess
from torpor.storage.local import LocalStore
from torpor.testing.samples import noise

SNAPSHOT = [
    ("put claims/", 1, True),  # nothing was begun yet
    ("open attach", 1, True),  # the host waits for the job
    ("stage scan started", 1, True),
    ("ask", 1, False),  # the job waits for an answer
    ("ask", 1, True),  # the answer was not sent
    ("ask", 2, False),
    ("stage upload ended", 1, True),
    ("put snapshots/", 1, False),  # the job is done, and not committed
    ("put snapshots/", 1, True),
    ("run forget", 1, True),
]
RESTORE = [
    ("open attach", 1, False),
    ("open attach", 1, True),
    ("ask", 1, False),
    ("ask", 1, True),
    ("ask", 2, False),
    ("usable", 1, True),
    ("stage finish started", 1, True),
    ("stage finish ended", 1, True),
    ("run forget", 1, False),  # the job is done, and nobody was told
    ("run forget", 1, True),
]


def _words(moment: tuple[str, int, bool]) -> str:
    what, nth, after = moment
    return f"{'after' if after else 'before'} {what} {nth}"


class Base(NamedTuple):
    folder: Path  # a lab with one snapshot, and its store
    root: Path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A workspace of twelve packs, and a snapshot of it."""
    folder = tmp_path_factory.mktemp("killed")
    root = folder / "workspace"
    for number in range(12):
        write(root / f"data-{number}", noise(1_100_000, number))
    (folder / "taken").mkdir()
    with Door(folder / "taken/store") as door:
        lab = _lab(folder / "taken", door)
        lab.host = lasting(lab, "c")
        lab.take(root, machine="c")
    return Base(folder, root)


def _lab(folder: Path, door: Door) -> Lab:
    lab = Lab(folder / "lab", store=LocalStore(str(folder / "store")))
    lab.repository.store = door.store(few=2)
    return lab


def _kill(folder: Path, door: Door, do: str, path: Path, moment: tuple[str, int, bool]) -> None:
    """Run a control side until it kills itself."""
    what, nth, after = moment
    text = json.dumps(
        {"do": do, "lab": str(folder / "lab"), "door": door.url, "path": str(path), "moment": what, "nth": nth, "after": after}
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.remote.control", text]
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, (done.stdout[-3000:].decode(), done.stderr.decode())


def _nothing_left(lab: Lab) -> None:
    assert [*(lab.folder / "state").glob("*/jobs/*")] == []
    assert [*(lab.folder / "home/jobs").iterdir()] == []


@pytest.mark.parametrize("moment", SNAPSHOT, ids=_words)
def test_during_a_snapshot(base: Base, door: Door, tmp_path: Path, moment: tuple[str, int, bool]) -> None:
    lab = _lab(tmp_path, door)
    _kill(tmp_path, door, "take", base.root, moment)
    committed = catalogue.ids(lab.repository)
    lab.host = lasting(lab)
    taken = lab.take(base.root)
    attempts = {names.writer_of(name.removeprefix("packs/")) for name, _ in door.puts}
    sent = sum(size for _, size in door.puts)
    assert sent <= 1.05 * taken.snapshot.manifest.stored_bytes
    assert len(committed) == (moment in SNAPSHOT[-2:])
    assert len(attempts) == 1 + len(committed)  # else one engine did all of it
    assert taken.snapshot.id not in committed
    lab.check_all()
    _nothing_left(lab)
    lab.host = InProcess()
    lab.restore(tmp_path / "out", machine="a")
    same(base.root, tmp_path / "out")
    assert len(lab.objects("claims/")) == (moment == SNAPSHOT[0])  # it runs out by itself


@pytest.mark.parametrize("moment", RESTORE, ids=_words)
def test_during_a_restore(base: Base, tmp_path: Path, moment: tuple[str, int, bool]) -> None:
    shutil.copytree(base.folder / "taken", tmp_path, dirs_exist_ok=True)
    with Door(tmp_path / "store") as door:
        lab = _lab(tmp_path, door)
        _kill(tmp_path, door, "restore", tmp_path / "out", moment)
        lab.host = lasting(lab)
        if moment == RESTORE[-1]:  # done in full, and forgotten: it is a folder in use
            with pytest.raises(TargetNotEmpty):
                lab.restore(tmp_path / "out", machine="a")
        else:
            result = lab.restore(tmp_path / "out", machine="a")
            assert result.files == 12
        same(base.root, tmp_path / "out")
        stored = sum(size for name, size in lab.objects("packs/").items())
        assert sum(size for _, size in door.gets) <= 1.05 * stored
        heads = [name for name, _ in door.gets if "index" in name]
        assert len(heads) <= 2  # an index is read in two pieces, and once
        _nothing_left(lab)
