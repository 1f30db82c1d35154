"""Runs a block as a user without rights."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.engine.lab import Lab, write

NOBODY = 65_534


@contextmanager
def as_somebody_else(tmp_path: Path) -> Iterator[Path]:
    """Below this, root is `nobody` (all threads are); any other user stays who they are. The value is an empty folder of that user's.

    The folder does not lie below `tmp_path`, which only its owner may enter.
    """
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="torpor-other-") as name:
        folder = Path(name).resolve()
        if not root:
            yield folder
            return
        # Everything that the engine imports late is loaded now: nobody may not be able to read it.
        warm = Lab(tmp_path / "warm/lab")
        write(tmp_path / "warm/workspace/file.py", "x")
        warm.take(tmp_path / "warm/workspace", scope={"excludes": ["*.x"]})
        warm.restore(tmp_path / "warm/out")
        groups, group = os.getgroups(), os.getegid()
        os.chown(folder, NOBODY, NOBODY)
        os.setgroups([])
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            os.seteuid(0)
            os.setegid(group)
            os.setgroups(groups)
            for below in folder.iterdir():  # while root may enter what its owner may not
                shutil.rmtree(below) if below.is_dir() else below.unlink()
