"""The host's state folder after crashes: what a killed process left is cleared away, and what a disk made of a file stops nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.engine.lab import Lab, same, write
from torpor.workspace.record import RecordWriter
from torpor.workspace.state import State


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 32, bytes(32), b"0" * 31])
def test_a_rental_that_is_none(lab: Lab, root: Path, tmp_path: Path, content: bytes) -> None:
    """Another one is made, once; the records of the one that was lost are not believed."""
    write(root / "file", "content")
    lab.take(root)
    path = Path(os.fsdecode(lab.state("a"))) / "rental"
    before = path.read_text()
    path.write_bytes(content)
    assert lab.take(root).result.read_files == 1
    assert len(path.read_text()) == 32
    assert path.read_text() != before
    assert State(lab.state("a")).rental() == path.read_text()
    lab.restore(tmp_path / "out")
    same(root, tmp_path / "out")


@pytest.mark.parametrize("content", [None, b""])
def test_one_of_several_makes_it(tmp_path: Path, content: bytes | None) -> None:
    state = State(os.fsencode(tmp_path))
    if content is not None:
        (tmp_path / "rental").write_bytes(content)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(state.rental())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(tmp_path / "rental").read_text()] * 8
    assert os.listdir(tmp_path) == ["rental"]


def test_records_of_writers_that_were_killed(tmp_path: Path) -> None:
    """They are removed by the next one; that of a writer which lives is not."""
    path = os.fsencode(tmp_path / "records/one")
    code = "import os, sys\nfrom torpor.workspace.record import RecordWriter\nwriter = RecordWriter(os.fsencode(sys.argv[1]))\nos._exit(9)"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, path], check=False)
    alive = RecordWriter(path)
    (left,) = os.listdir(tmp_path / "records")
    other = RecordWriter(path)
    assert left in os.listdir(tmp_path / "records")
    assert len(os.listdir(tmp_path / "records")) == 2
    for writer in (alive, other):
        writer.abandon()
    assert os.listdir(tmp_path / "records") == []
