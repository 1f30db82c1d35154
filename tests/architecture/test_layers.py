"""Who may import whom. The rules themselves are in pyproject.toml, under [tool.importlinter]."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.house import ROOT, files

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
ROOMS = next(contract for contract in CONTRACTS if contract["id"] == "rooms")


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    lint = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([lint, "--no-cache"], check=False, cwd=folder, capture_output=True, text=True, timeout=120)


def test_contracts_are_kept() -> None:
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("torpor/format/pack.py", "import socket", "format, plan and jobs do no I/O"),
        ("torpor/plan/cuts.py", "import os", "format, plan and jobs do no I/O"),
        ("torpor/plan/cuts.py", "import torpor.events", "rooms of torpor"),
        ("torpor/format/pack.py", "import torpor.hibernate", "rooms of torpor"),
        ("torpor/hibernate/__init__.py", "import prefect", "torpor knows no orchestrator"),
        ("torpor/errors.py", "import flows", "flows over tasks over torpor"),
        ("torpor/nowhere.py", "", "rooms of torpor"),  # a room that no layer names
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, file: str, line: str, broken: str) -> None:
    for part in ("torpor", "tasks", "flows"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as stream:
        stream.write(f"\n{line}\n")
    done = _lint(tmp_path)
    assert done.returncode == 1
    assert f"{broken} BROKEN" in done.stdout, done.stdout


def test_brackets_are_for_rooms_that_are_not_there_yet() -> None:
    for layer in ROOMS["layers"]:
        for name in layer.replace("|", " ").split():
            room = name.strip("()")
            there = (ROOT / "torpor" / room / "__init__.py").exists() or (ROOT / "torpor" / f"{room}.py").exists()
            assert there is not name.startswith("("), f"[tool.importlinter]: {name}: brackets go once the room is there"


def test_pure_rooms_open_no_files() -> None:
    """What an import contract cannot see: builtins that do I/O."""
    pure = [*files("torpor/format"), *files("torpor/plan"), ROOT / "torpor/jobs.py"]
    for file in (file for file in pure if file.suffix == ".py"):
        for node in ast.walk(ast.parse(file.read_text())):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            assert name not in {"open", "input", "print", "exec", "eval", "__import__"}, f"{file}:{getattr(node, 'lineno', 0)}"
