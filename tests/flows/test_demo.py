"""The demo, on a folder: what it says, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from flows import demo
from flows.demo_table import kind_of
from tests.flows.field import MIB, Field
from torpor.control import catalogue, snapshots
from torpor.control.kinds import by_kind
from torpor.events import ignore
from torpor.jobs import Scope
from torpor.remote.host import InProcess
from torpor.testing.compare import compare_trees


def test_a_folder_goes_to_sleep_and_wakes(original: Path, field: Field, tmp_path: Path) -> None:
    os.mkfifo(original / "pipe")
    (original / ".torporignore").write_text("*.tmp\n")
    (original / "scratch.tmp").write_text("left out")
    before = sorted(original.rglob("*"))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = field.environment | {"TMPDIR": str(temporary)}  # PREFECT_API_URL of the tests' server too: it must not be used
    command = [sys.executable, "-m", "flows.demo", "--json-parameters", "-"]
    given = json.dumps({"path": str(original)}).encode()
    done = subprocess.run(command, check=False, input=given, capture_output=True, env=environment, timeout=200)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, lines[-1]
    result = lines[-1]["result"]
    notes = [line["event"]["text"] for line in lines if line.get("event", {}).get("kind") == "note"]
    assert any(note.startswith("Watch it at http://127.0.0.1:") for note in notes)
    assert (result["differences"], result["hibernate"]["destroyed"], result["wake"]["machine"]) == (0, True, "local:gpu-2")
    table = "\n".join(result["lines"])
    for word in ("all the same", "whole workspace", "hibernate: verify", "wake: download", "awake: usable after", "unchanged, saved again"):
        assert word in table
    assert sorted(original.rglob("*")) == before
    assert list(temporary.iterdir()) == []
    assert not field.home.exists()
    assert not field.store.exists()


def test_a_difference_is_seen(original: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(original), str(copy)], check=True)
    assert demo.differences(original, copy) == compare_trees(original, copy) == []
    (copy / "src" / "train.py").unlink()
    assert any("src/train.py" in line for line in demo.differences(original, copy))


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows.demo", str(tmp_path / "nowhere")]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=root, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is no folder" in done.stderr


def test_bytes_by_kind(field: Field, original: Path) -> None:
    (original / "twin.bin").write_bytes((original / "noise.bin").read_bytes())
    (original / ".venv" / "lib").mkdir(parents=True)
    (original / ".venv" / "lib" / "module.py").write_text("x = 1\n" * 1000)
    repository = field.repository()
    state = os.fsencode(tempfile.mkdtemp(dir=field.home))
    scope = Scope(roots=[os.fsencode(original)])
    taken = snapshots.take(repository, InProcess(), scope, state, snapshots.Options(), ignore)
    kinds = by_kind(repository, taken.snapshot.id, kind_of)
    manifest = catalogue.load(repository, taken.snapshot.id).manifest
    assert sum(kind.files for kind in kinds.values()) == manifest.files
    assert sum(kind.raw_bytes for kind in kinds.values()) == manifest.raw_bytes
    assert sum(kind.stored_bytes for kind in kinds.values()) <= manifest.stored_bytes
    assert kinds["packages (.venv)"].files == 1
    weights = kinds["checkpoints, optimizer state (.pt …)"]
    assert (weights.files, weights.raw_bytes) == (3, 3 * MIB)
    assert 1 * MIB < weights.stored_bytes < 2 * MIB  # the twin costs nothing, and weights shrink
