"""Runs the real command line, as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIMIT = 60  # seconds for one command
COMMAND = (sys.executable, "-m", "torpor.cli")
# Root may read what it likes; without these two rights (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH) it is a user like any other.
_POWERLESS = """
import ctypes, os, sys
for capability in (1, 2) if os.geteuid() == 0 else ():
    if ctypes.CDLL(None).prctl(24, capability, 0, 0, 0):
        sys.exit("prctl: this test needs to give up a right")
os.execv(sys.executable, [sys.executable, "-m", "torpor.cli", *sys.argv[1:]])
"""
POWERLESS = (sys.executable, "-c", _POWERLESS)


def patched(code: str) -> tuple[str, ...]:
    """The command line after some code of a test has run in its process: a store that is slow, a process that dies."""
    return (sys.executable, "-c", f"{code}\nimport sys\nfrom torpor.cli.main import main\nsys.exit(main())")


@dataclass
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The last line of standard output, which must be all of it."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        found = json.loads(lines[0])
        assert isinstance(found, dict)
        return found


@dataclass
class Cli:
    """One computer: a TORPOR_HOME, and the repository it uses."""

    home: Path
    storage: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "TORPOR_HOME": str(self.home), "TORPOR_STORAGE": str(self.storage), **self.extra}

    def start(self, *words: str | Path, command: tuple[str, ...] = COMMAND) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, *map(str, words)], env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True, cwd=self.home.parent,  # not the checkout: what is there must not be found by chance
        )  # fmt: skip

    def run(self, *words: str | Path, typed: str = "", command: tuple[str, ...] = COMMAND) -> Done:
        return finish(self.start(*words, command=command), typed)

    def ok(self, *words: str | Path, typed: str = "") -> Done:
        """A command that must end well."""
        done = self.run(*words, typed=typed)
        assert done.code == 0, done.err
        return done

    def json(self, *words: str | Path, typed: str = "") -> dict[str, Any]:
        return self.ok(*words, "--json", typed=typed).json

    def fails(self, code: int, *words: str | Path, command: tuple[str, ...] = COMMAND) -> dict[str, Any]:
        """The error of a command that must end with this exit code, checked in both of its forms."""
        done = self.run(*words, "--json", command=command)
        assert done.code == code, (done.code, done.out, done.err)
        error = done.json
        assert error["exit_code"] == code
        assert done.err.count(f"torpor: {error['what']}") == 1
        for text in (error["safe"], error["remedy"]):
            assert f"  {text}\n" in done.err or not text
        return error

    def objects(self) -> dict[str, tuple[int, int]]:
        """Every file of the store: size and mtime."""
        found = (path for path in self.storage.rglob("*") if path.is_file())
        return {str(path.relative_to(self.storage)): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}

    def packs(self) -> list[Path]:
        return sorted(path for path in (self.storage / "packs").rglob("*") if path.is_file() and "index-" not in path.name)


def finish(process: subprocess.Popen[str], typed: str = "") -> Done:
    """Wait for a command, with a bound."""
    try:
        out, err = process.communicate(typed, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Done(process.returncode, out, err)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, with a bound."""
    nap = threading.Event()
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"never came: {what}"
        nap.wait(0.01)
