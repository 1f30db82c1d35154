"""Start-up counts: a command must not load what it does not use.

To add a line to `LIGHT`: what runs, and the modules that must not be loaded after it. To add a command that reads or writes much:
a line in `WORDS`; what must not be loaded at its first byte is in `LATER`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.architecture.house import python
from torpor.testing.samples import weights

CODECS = {"backports.zstd", "blake3", "lz4", "numpy"}
SCREEN = {"pathspec", "rich", "typer"}
ORCHESTRATOR = {"fastapi", "prefect", "pydantic", "starlette"}
HEAVY = CODECS | SCREEN | ORCHESTRATOR | {"asyncio", "cryptography", "msgspec"}


def command(*arguments: str) -> str:
    return f"import sys; sys.argv = {['torpor', *arguments]!r}\nfrom torpor.cli.main import main; sys.exit(main())"


LIGHT: dict[str, tuple[str, set[str]]] = {
    "the package": ("import torpor", HEAVY),
    "messages": ("import torpor.jobs", HEAVY - {"msgspec"}),
    "uploads to B2": ("import torpor.storage.transport_b2", HEAVY - {"msgspec"} | {"b2sdk", "requests", "ssl", "urllib3"}),
    "machines of Google's": (
        "import torpor.machines.gce, torpor.machines.gce_provider",
        HEAVY - {"msgspec"} | {"google", "grpc", "requests", "urllib3"},
    ),
    "a connection to a long job": ("import torpor.remote.detached", HEAVY - {"msgspec"} | {"ssl", "subprocess", "tempfile"}),
    "torpor --version": (command("--version"), HEAVY | {"torpor.bench"}),
    "torpor bench --help": (command("bench", "--help"), CODECS | ORCHESTRATOR | {"cryptography", "torpor.bench"}),
}
# Not there yet when the first byte of a file (snapshot) or of a pack (restore) is asked for.
LATER = (
    SCREEN
    | ORCHESTRATOR
    | {"asyncio", "dataclasses", "http.client", "numpy", "shutil", "ssl", "subprocess", "tempfile", "typing_extensions"}
)
AT_THE_FIRST_BYTE = """
import json, sys
from torpor.cli.progress import Display
event = Display.event
def seen(self, what):
    if what.kind == "first_byte":
        print(json.dumps(list(sys.modules)), flush=True)
    event(self, what)
Display.event = seen
sys.stderr.isatty = lambda: {terminal}
"""
REPORT = "import atexit, json, sys\natexit.register(lambda: print('\\n' + json.dumps(list(sys.modules))))\n"


@pytest.mark.parametrize("what", LIGHT)
def test_starts_light(what: str) -> None:
    code, absent = LIGHT[what]
    loaded = set(json.loads(python(REPORT + code).splitlines()[-1]))
    assert not loaded & absent


WORDS = {"snapshot": ["snapshot", "{0}/workspace"], "restore": ["restore", "latest", "{0}/back"]}


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("what", WORDS)
def test_reads_its_first_byte_soon(what: str, terminal: bool, tmp_path: Path) -> None:
    """Progress is imported later, and an ordinary command line needs no typer."""
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "file").write_bytes(os.urandom(3 << 20))
    common = ["--home", f"{tmp_path}/home", "--storage", f"{tmp_path}/store", "--json"]
    if what == "restore":
        python(command("snapshot", f"{tmp_path}/workspace", *common))
    words = [word.format(tmp_path) for word in WORDS[what]]
    out = python(AT_THE_FIRST_BYTE.replace("{terminal}", str(terminal)) + command(*words, *common)).splitlines()
    assert len(out) == 2, out
    assert json.loads(out[1])["files"] == 1
    assert not set(json.loads(out[0])) & LATER


@pytest.mark.parametrize("what", WORDS)
def test_needs_no_numpy(what: str, tmp_path: Path) -> None:
    """Where the kernels are compiled, as they are where the tests run."""
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "weights.bin").write_bytes(weights("bf16", 3 << 20))
    (tmp_path / "workspace" / "noise.bin").write_bytes(os.urandom(3 << 20))
    (tmp_path / "workspace" / "small.py").write_text("pass\n" * 5000)
    common = ["--home", f"{tmp_path}/home", "--storage", f"{tmp_path}/store", "--json"]
    if what == "restore":
        python(command("snapshot", f"{tmp_path}/workspace", *common))
    words = [word.format(tmp_path) for word in WORDS[what]]
    report, modules = python(REPORT + command(*words, *common)).splitlines()[-3::2]
    assert json.loads(report)["files"] == 3
    assert json.loads(report).get("stored_bytes", 0) < 5.2 * 2**20  # the weights went through planes
    assert "torpor.codecs.planes" in json.loads(modules)
    assert "numpy" not in json.loads(modules)
