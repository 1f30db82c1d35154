"""The way out: a snapshot that the engine made comes back from its objects and the recovery key, where no torpor is.

The environments are new ones: an interpreter with a few packages, linked from those of this one, and the script. Nothing else of the
project is in reach of it: not torpor, not numpy, not msgspec.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.architecture.house import ROOT, python
from tests.engine.lab import Lab, touch
from torpor.format import manifest, names
from torpor.storage.local import LocalStore
from torpor.testing import nasty, trees
from torpor.testing.compare import compare_trees

MIB = 1 << 20
AS_ROOT = os.geteuid() == 0
NEEDED = ("cryptography", "cffi", "backports.zstd", "lz4")  # what the script asks for, and what that needs to be imported
NEVER = ("torpor", "numpy", "msgspec", "pytest", "tests")


@dataclass
class Away:
    """An interpreter of its own, and the script beside it."""

    folder: Path

    @property
    def interpreter(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    def run(self, command: str, store: Path, *arguments: str, key: str = "") -> subprocess.CompletedProcess[str]:
        line = [str(self.interpreter), "-I", str(self.folder / "unfreeze.py"), command, str(store), *arguments]
        environment = {"TORPOR_RECOVERY_KEY": key, "HOME": str(self.folder), "PATH": "/usr/bin:/bin"}
        return subprocess.run(line, cwd=self.folder, env=environment, check=False, capture_output=True, text=True, timeout=120)


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What it said on stderr, without progress."""
    return [line for line in done.stderr.splitlines() if not line.endswith(" chunks decoded ...")]


def away(folder: Path, *more: str) -> Away:
    """An environment that holds `NEEDED` and `more`, and no other package."""
    found = Away(folder)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True, capture_output=True)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    for name in (*NEEDED, *more):
        try:
            files = distribution(name).files or []
        except PackageNotFoundError:
            assert name == "backports.zstd"  # from Python 3.14 on the standard library has it
            continue
        for file in files:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                link = packages / file
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file.locate())
    shutil.copy(ROOT / "tools" / "unfreeze.py", folder)
    for name in NEVER:
        python(f"import importlib.util as u; assert u.find_spec({name!r}) is None", interpreter=found.interpreter)
    return found


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Away:
    return away(tmp_path_factory.mktemp("full"), "blake3")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Away:
    """Without blake3."""
    found = away(tmp_path_factory.mktemp("bare"))
    python("import importlib.util as u; assert u.find_spec('blake3') is None", interpreter=found.interpreter)
    return found


class Saved(NamedTuple):
    lab: Lab
    workspace: Path
    alone: Path
    store: Path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A workspace in two snapshots: packages, bf16 weights, everything nasty; and a root that is a file."""
    folder = tmp_path_factory.mktemp("saved")
    workspace, alone = folder / "workspace", folder / "alone"
    workspace.mkdir()
    nasty.make(workspace / "nasty", [part for part in nasty.PARTS if AS_ROOT or part != "modes"])
    trees.packages(workspace / "site-packages", 24 * MIB)
    trees.write_safetensors(workspace / "model.safetensors", "BF16", trees.bf16(np.random.default_rng(3), 40 * MIB))
    alone.write_text("a root that is a file\n")
    touch(alone)
    lab = Lab(folder / "lab", store=LocalStore(str(folder / "store")))
    lab.take(workspace, alone)
    before = workspace.stat().st_mtime_ns
    (workspace / "later.txt").write_text("in the second snapshot alone")
    touch(workspace / "later.txt")
    os.utime(workspace, ns=(before, before))
    assert not any(lab.take(workspace, alone).result.problems.values())
    return Saved(lab, workspace, alone, folder / "store")


def test_a_snapshot_comes_back_without_torpor(saved: Saved, full: Away, tmp_path: Path) -> None:
    key = saved.lab.recovery_key
    listed = full.run("list", saved.store, key=key)
    assert (listed.returncode, told(listed), listed.stdout.count("\n")) == (0, [], 2)
    checked = full.run("check", saved.store, "latest", key=key)
    assert (checked.returncode, told(checked)) == (0, [])
    assert "unfreeze: 64 chunks decoded ...\n" in checked.stderr
    done = full.run("extract", saved.store, "latest", str(tmp_path / "out"), "--setuid", key=key)
    assert (done.returncode, told(done)) == (0, [])
    assert compare_trees(saved.workspace, tmp_path / "out" / "workspace") == []
    assert compare_trees(saved.alone, tmp_path / "out" / "alone") == []


def test_without_blake3_it_says_what_it_did_not_check(saved: Saved, bare: Away, tmp_path: Path) -> None:
    """And restores the same bytes, all of them opened under their seals; here the snapshot before."""
    key, first = saved.lab.recovery_key, min(path.stem for path in (saved.store / "snapshots").glob("*.json"))
    ids = "unfreeze: not checked: BLAKE3 ids of chunks and small files (needs the package blake3 and the recovery key)"
    packs = "unfreeze: not checked: BLAKE3 of whole packs (needs the package blake3)"
    checked = bare.run("check", saved.store, first, key=key)
    assert (checked.returncode, told(checked)) == (0, [ids, packs])
    done = bare.run("extract", saved.store, first, str(tmp_path / "out"), "--setuid", key=key)
    assert (done.returncode, told(done)) == (0, [ids])
    assert compare_trees(saved.workspace, tmp_path / "out" / "workspace") == ["later.txt: only in the first"]


def test_the_keys_in_the_bucket_are_enough(saved: Saved, full: Away, tmp_path: Path) -> None:
    """config.json is lost; of the packs, only those of the snapshot's own writers are there."""
    copy, key = tmp_path / "copy", saved.lab.recovery_key
    last = max(path.stem for path in (saved.store / "snapshots").glob("*.json"))
    found = saved.lab.repository.read_signed("manifest", names.manifest(last))
    writers = manifest.decode(found, manifest.Manifest, "manifest").keyring
    shutil.copytree(saved.store / "keys", copy / "keys")
    shutil.copytree(saved.store / "snapshots", copy / "snapshots")
    for writer in writers:
        snapshot = writer.partition("/")[0]
        shutil.copytree(saved.store / "packs" / snapshot, copy / "packs" / snapshot, dirs_exist_ok=True)
    done = full.run("extract", copy, last, str(tmp_path / "out"), "--setuid", key=key)
    warning = "unfreeze: warning: config.json is missing, damaged or forged; the recovery key and keys/ alone were used"
    assert (done.returncode, told(done)) == (3, [warning])
    assert compare_trees(saved.workspace, tmp_path / "out" / "workspace") == []


def test_a_forged_manifest_is_refused(saved: Saved, full: Away, tmp_path: Path) -> None:
    """Signed by another repository's key, or with a byte changed; nothing is written."""
    copy, key = tmp_path / "copy", saved.lab.recovery_key
    shutil.copytree(saved.store, copy, copy_function=os.link)
    last = max((copy / "snapshots").glob("*.json"))
    good = last.read_bytes()
    forger = Lab(tmp_path / "forger", store=LocalStore(str(tmp_path / "other")))
    forged = forger.repository.sign("manifest", manifest.decode(good[10:-130], manifest.Manifest, "manifest"))
    at = good.index(b'"files":') + 8
    for data, reason in ((forged, "which is none of"), (good[:at] + b"1" + good[at:], "forged or damaged"), (good[:-7], "")):
        last.unlink()
        last.write_bytes(data)
        done = full.run("extract", copy, "latest", str(tmp_path / "out"), key=key)
        assert done.returncode == 1
        assert reason in done.stderr
        assert f"(last read: snapshots/{last.name})" in done.stderr
        assert not (tmp_path / "out").exists()


def test_a_wrong_or_missing_key_opens_nothing(saved: Saved, full: Away, tmp_path: Path) -> None:
    other = Lab(tmp_path / "other").recovery_key
    assert "opens nothing under keys/" in full.run("extract", saved.store, "latest", str(tmp_path / "out"), key=other).stderr
    assert "the recovery key is needed" in full.run("extract", saved.store, "latest", str(tmp_path / "out")).stderr
    assert not (tmp_path / "out").exists()


def test_a_repository_without_encryption_needs_no_key(full: Away, tmp_path: Path) -> None:
    trees.packages(tmp_path / "source", 2 * MIB)
    lab = Lab(tmp_path / "lab", store=LocalStore(str(tmp_path / "store")), encryption="none")
    lab.take(tmp_path / "source")
    done = full.run("extract", tmp_path / "store", "latest", str(tmp_path / "out"))
    assert done.returncode == 0
    assert "not checked: that this repository is yours" in done.stderr
    assert compare_trees(tmp_path / "source", tmp_path / "out" / "source") == []
