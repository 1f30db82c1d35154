"""Fixtures of the command line's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.door import Cli


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """A computer without keys, and an empty store."""
    return Cli(tmp_path / "home", tmp_path / "store")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A few files of every kind."""
    root = tmp_path / "workspace"
    (root / "src").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "src" / "train.py").write_text("print('training')\n" * 50)
    (root / "src" / "run.sh").write_text("#!/bin/sh\n")
    (root / "src" / "run.sh").chmod(0o755)
    (root / "weights.bin").write_bytes(os.urandom(5 << 20))
    (root / "latest").symlink_to("weights.bin")
    os.link(root / "src" / "train.py", root / "linked.py")
    age(root)
    return root


def age(root: Path) -> None:
    """Let files look an hour old: a restore trusts its own record of them then."""
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (path.stat().st_mtime - 3600,) * 2)
