"""Every row of a table names a class that is there, and has a conformance suite that runs.

A suite joins by a class in tests/conformance: its name begins with `Test`, a base ends with `Suite`, and its body has the name or
the class of the row.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

from tests.architecture.house import ROOT, files


def _rows() -> dict[str, tuple[Path, set[str]]]:
    """By `room: row`: the file of the row's module, and the row's own name with all texts that it holds."""
    found = {}
    for table in sorted((ROOT / "torpor").glob("*/table.py")):
        room = f"torpor.{table.parent.name}."
        rows = import_module(f"{room}table").ROWS
        for name, row in rows.items() if isinstance(rows, dict) else ((row.name, row) for row in rows):
            fields = row if isinstance(row, tuple) else [getattr(row, field) for field in row.__annotations__]
            texts = {name} | {field for field in fields if isinstance(field, str)}
            (module,) = (text for text in texts if text.startswith(room) and ":" not in text)
            found[f"{table.parent.name}: {name}"] = (ROOT / (module.replace(".", "/") + ".py"), texts)
    return found


def _mentions(node: ast.AST) -> set[object]:
    names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    names |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
    return names | {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}


def _suites() -> list[set[object]]:
    """What each test class of a suite mentions."""
    trees = [ast.parse(file.read_text()) for file in files("tests/conformance") if file.suffix == ".py"]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test")]
    return [_mentions(node) for node in classes if any(ast.unparse(base).endswith("Suite") for base in node.bases)]


ROWS = _rows()


@pytest.mark.parametrize("row", ROWS)
def test_every_row_names_a_class(row: str) -> None:
    file, texts = ROWS[row]
    assert texts & _classes(file)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_a_suite(row: str) -> None:
    file, texts = ROWS[row]
    name = row.split(": ")[1]
    assert any(({name} | (texts & _classes(file))) & mentioned for mentioned in _suites())


def _classes(file: Path) -> set[str]:
    return {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)}
