"""Where the project's files are: shared by the architecture tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SKIP = {
    ".git",
    ".venv",
    ".hypothesis",
    ".import_linter_cache",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "__pycache__",
    "build",
    "dist",
}


def files(*below: str) -> Iterator[Path]:
    """All files of the project, or those of the named folders, without what tools leave behind."""
    for folder in below or (".",):
        for parent, folders, names in os.walk(ROOT / folder):
            folders[:] = sorted(set(folders) - SKIP)
            yield from (Path(parent, name) for name in sorted(names) if name != "uv.lock")


def texts(*below: str) -> Iterator[tuple[str, str]]:
    """(path from the root, content) of each text file."""
    for file in files(*below):
        data = file.read_bytes()
        if b"\0" not in data:
            yield str(file.relative_to(ROOT)), data.decode()


def modules(package: str) -> list[str]:
    """Dotted names of all modules of a package, found by their files and not imported."""
    paths = (file.relative_to(ROOT).with_suffix("") for file in files(package) if file.suffix == ".py")
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)


def python(code: str, *arguments: str, interpreter: str | Path = sys.executable) -> str:
    """Run `code` in a fresh interpreter, away from the project's folder; returns what it printed."""
    command = [str(interpreter), "-I", "-c", code, *arguments]
    done = subprocess.run(command, check=False, cwd=Path.home(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
