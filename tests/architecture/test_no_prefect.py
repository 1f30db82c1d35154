"""The engine runs where no orchestrator is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.architecture.house import ROOT, modules, python

# Each module must load with the core dependencies alone: what is optional is imported where it is used.
# `torpor.testing` is apart: it is for test runs, which have pytest.
ENGINE = [name for name in modules("torpor") if name.split(".")[1:2] != ["testing"]]
LOAD = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
ABSENT = "import sys\nfor name in ('prefect', 'fastapi', 'pydantic'): sys.modules[name] = None\n"


def test_every_module_loads_without_prefect() -> None:
    python(ABSENT + LOAD, *ENGINE)


@pytest.mark.slow
def test_the_wheel_holds_torpor_alone_and_runs_on_core_dependencies(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"torpor", "-".join(wheel.name.split("-")[:2]) + ".dist-info"}

    interpreter = _install(wheel, tmp_path / "venv")
    version = subprocess.run([interpreter.with_name("torpor"), "--version"], check=True, capture_output=True, text=True).stdout
    assert wheel.name.split("-")[1] in version
    python(LOAD, *ENGINE, interpreter=interpreter)
    for name in ("prefect", "flows", "tasks"):
        python(f"import importlib.util as u; assert u.find_spec({name!r}) is None", interpreter=interpreter)


def _install(wheel: Path, venv: Path) -> Path:
    """A new environment with the wheel, by what made this one: uv where it is on PATH, else pip."""
    interpreter = venv / "bin" / "python"
    if uv := shutil.which("uv"):
        make = [uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(venv)]
        install = [uv, "pip", "install", "--quiet", "--python", str(interpreter)]
    else:
        make = [sys.executable, "-m", "venv", "--without-pip", str(venv)]
        install = [sys.executable, "-m", "pip", "--quiet", "--python", str(interpreter), "install", "--no-compile"]
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    for command in (make, [*install, "--constraint", str(ROOT / "constraints.txt"), str(wheel)]):
        done = subprocess.run(command, check=False, cwd=wheel.parent, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    return interpreter
