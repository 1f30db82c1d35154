"""Which files of torpor a host needs: what its entries import, and what tables name for later, followed through the source."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import torpor

ENTRIES = ("torpor.remote.entry", "torpor.remote.serve", "torpor.remote.detached", "torpor.gpu.child")
ROOT = Path(torpor.__file__).parent


@cache
def modules() -> dict[str, Path]:
    """Dotted name → file of each module that a host needs, packages with theirs."""
    found: dict[str, Path] = {}
    todo = list(ENTRIES)
    while todo:
        name = todo.pop()
        if name in found or (file := _file(name)) is None:
            continue
        found[name] = file
        todo.append(name.rpartition(".")[0])
        todo.extend(_named(ast.parse(file.read_bytes())))
    found.pop("", None)
    return found


@cache
def others() -> set[str]:
    """Top names of what these modules import that is not torpor, at any time."""
    names: set[str] = set()
    for file in modules().values():
        names.update(name.partition(".")[0] for name in _named(ast.parse(file.read_bytes()), texts=False))
    return names - {"torpor", "__future__"}


def data() -> list[Path]:
    """What lies beside these modules and is no module: compiled kernels, sources of the GPU's."""
    folders = {file.parent for file in modules().values()}
    kernels = ROOT / "gpu" / "kernels"
    return sorted(path for folder in folders for path in folder.glob("*.so")) + sorted(path for path in kernels.glob("*") if path.is_file())


def _file(name: str) -> Path | None:
    if name.partition(".")[0] != "torpor":
        return None
    path = ROOT.joinpath(*name.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _named(tree: ast.AST, texts: bool = True) -> list[str]:
    """Names of modules in imports, and in texts as tables have them; not what type checkers alone import."""
    names: list[str] = []
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo.extend(node.orelse)
            continue
        todo.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names.extend(f"{node.module}.{alias.name}" for alias in node.names)
        elif texts and isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("torpor."):
            names.append(node.value)
    return names
