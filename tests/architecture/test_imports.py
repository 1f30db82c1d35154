"""Start-up counts: a command must not load what it does not use.

To add a line to `LIGHT`: what runs, and the modules that must not be loaded after it.
"""

from __future__ import annotations

import json

import pytest

from tests.architecture.house import python

CODECS = {"backports.zstd", "blake3", "lz4", "numpy"}
SCREEN = {"pathspec", "rich", "typer"}
ORCHESTRATOR = {"fastapi", "prefect", "pydantic", "starlette"}
HEAVY = CODECS | SCREEN | ORCHESTRATOR | {"asyncio", "cryptography", "msgspec"}


def command(*arguments: str) -> str:
    return f"import sys; sys.argv = {['torpor', *arguments]!r}\nfrom torpor.cli.main import main; sys.exit(main())"


LIGHT: dict[str, tuple[str, set[str]]] = {
    "the package": ("import torpor", HEAVY),
    "messages": ("import torpor.jobs", HEAVY - {"msgspec"}),
    "torpor --version": (command("--version"), HEAVY),
}
REPORT = "import atexit, json, sys\natexit.register(lambda: print('\\n' + json.dumps(list(sys.modules))))\n"


@pytest.mark.parametrize("what", LIGHT)
def test_starts_light(what: str) -> None:
    code, absent = LIGHT[what]
    loaded = set(json.loads(python(REPORT + code).splitlines()[-1]))
    assert not loaded & absent
