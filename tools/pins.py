"""Resolve every dependency anew and write the pins: `constraints.txt`, and the same lines into `pyproject.toml` for uv.

Both hold names and versions only. With `--check` it says whether the two agree, and resolves nothing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
PYPROJECT = ROOT / "pyproject.toml"
HEADER = "# Written by `./dev pins`: what the tests run with. For uv, pyproject.toml has the same lines.\n"
TABLE = re.compile(r"^constraint-dependencies = \[\n.*?^\]\n", re.DOTALL | re.MULTILINE)


def resolve() -> list[str]:
    """The newest versions that go together, for every Python the project runs on; one `name==version ; marker` each."""
    uv = shutil.which("uv")
    if uv is None:
        sys.exit("pins: needs uv, which resolves for all versions of Python at once. Install it: python3 -m pip install uv")
    command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.10", "--all-extras"]
    command += ["--group", "dev", "--group", "prefect", "--no-header", "--no-annotate", "--no-emit-index-url", "pyproject.toml"]
    with tempfile.TemporaryDirectory() as folder:
        # A copy without today's pins, which would hold everything where it is.
        Path(folder, "pyproject.toml").write_text(TABLE.sub("", PYPROJECT.read_text()))
        done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()


def written() -> list[str]:
    return [line for line in CONSTRAINTS.read_text().splitlines() if line and not line.startswith("#")]


def declared() -> list[str]:
    pins: list[str] = tomllib.loads(PYPROJECT.read_text())["tool"]["uv"]["constraint-dependencies"]
    return pins


def write(pins: list[str]) -> None:
    CONSTRAINTS.write_text(HEADER + "".join(f"{pin}\n" for pin in pins))
    table = "constraint-dependencies = [\n" + "".join(f'    "{pin}",\n' for pin in pins) + "]\n"
    PYPROJECT.write_text(TABLE.sub(lambda _: table, PYPROJECT.read_text(), count=1))


def main() -> None:
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if written() == declared() else "pins: constraints.txt and pyproject.toml disagree; run ./dev pins")
    before = set(written()) if CONSTRAINTS.exists() else set()
    pins = resolve()
    write(pins)
    for pin in sorted(before ^ set(pins)):
        print("-" if pin in before else "+", pin)


if __name__ == "__main__":
    main()
