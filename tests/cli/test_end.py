"""How a command's process ends: at once, with everything said and its exit code, and not before what Python would wait for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.lab import write


def torpor(*words: str, home: Path) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "TORPOR_HOME": str(home / "home"), "TORPOR_STORAGE": (home / "store").as_uri()}
    return subprocess.run([sys.executable, "-m", "torpor.cli", *words], env=env, capture_output=True, check=False, timeout=120)


def test_everything_is_said_and_the_code_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "workspace" / "file", b"content")
    taken = torpor("snapshot", str(tmp_path / "workspace"), "--json", home=tmp_path)
    assert taken.returncode == 0
    assert json.loads(taken.stdout)["files"] == 1
    assert b"made repository" in taken.stderr
    wrong = torpor("restore", "latest", str(tmp_path / "workspace"), "--json", home=tmp_path)
    assert wrong.returncode == json.loads(wrong.stdout)["exit_code"] != 0


@pytest.mark.parametrize("words", ["--version", "snapshots --json"])
def test_what_can_not_be_said_is_a_failure(words: str, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    env |= {"TORPOR_HOME": str(tmp_path / "home"), "TORPOR_STORAGE": (tmp_path / "store").as_uri()}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "torpor.cli", *words.split()], env=env, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode != 0
    assert b"No space left on device" in done.stderr


def ended(before: str) -> bytes:
    """What a process says that does `before` and then is `torpor --version`."""
    first, last = (
        "import atexit, sys, threading\nsys.argv = ['torpor', '--version']",
        "from torpor.cli.main import command\ncommand()",
    )
    code = f"{first}\n{before}\n{last}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60).stdout


AT_THE_END = "atexit.register(print, 'taken down')"


@pytest.mark.parametrize(
    ("before", "taken_down"),
    [
        (AT_THE_END, False),
        (f"{AT_THE_END}\nsys.modules['prefect'] = sys", True),
        (f"{AT_THE_END}\nthreading.Thread(target=lambda: (threading.Event().wait(0.3), print('done'))).start()", True),
        (f"{AT_THE_END}\nthreading.Thread(target=threading.Event().wait, daemon=True).start()", False),
        (f"{AT_THE_END}\nsys.stderr = None", False),
    ],
)
def test_it_waits_for_what_holds_something(before: str, taken_down: bool) -> None:
    said = ended(before).split(b"\n")
    assert said[0].startswith(b"torpor ")
    assert (b"done" in said) == ("Thread(target=lambda" in before)
    assert (b"taken down" in said) == taken_down
