"""Running whole commands and measuring them from outside: wall and CPU seconds, memory of all their processes together."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from torpor.bench import machine

RESULTS = Path(__file__).parent / "results"
MIB = 1024 * 1024
SETTLE = 2.5  # seconds after a change: a file that changed within two seconds of a snapshot is read again by the next one


@dataclass
class Run:
    """One finished command. `peak`: the greatest sum of resident memory over all its processes, in bytes, sampled every 20 ms."""

    wall: float
    cpu: float
    peak: int
    output: bytes


def _resident(process: psutil.Process) -> int:
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def run(command: Sequence[str] | str, *, env: dict[str, str] | None = None, cwd: Path | None = None, memory: bool = False) -> Run:
    """Run a command (a string goes to sh) to its end. Raises `CalledProcessError` with what it said."""
    before = os.times()
    began = time.perf_counter()
    process = subprocess.Popen(
        command, shell=isinstance(command, str), env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )  # fmt: skip
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        seen = psutil.Process(process.pid)
        while not done.wait(0.02):
            try:
                peak = max(peak, _resident(seen))
            except psutil.NoSuchProcess:
                return

    watcher = threading.Thread(target=watch, daemon=True)
    if memory:
        watcher.start()
    try:
        output, errors = process.communicate()
    except BaseException:  # a stop of ours: it may not outlive what it works with
        process.terminate()
        process.communicate()
        raise
    wall = time.perf_counter() - began
    done.set()
    after = os.times()
    if process.returncode:
        sys.stderr.buffer.write(errors)
        raise subprocess.CalledProcessError(process.returncode, command, output, errors)
    cpu = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return Run(wall, cpu, peak, output)


def environment() -> dict[str, str]:
    """This environment, as users have it: with compiled modules kept."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def torpor(*arguments: str) -> list[str]:
    """The command line of this checkout's torpor."""
    return [sys.executable, "-m", "torpor.cli", *arguments]


def last_json(output: bytes) -> dict[str, object]:
    """The object that `--json` prints as the last line."""
    data: dict[str, object] = json.loads(output.strip().splitlines()[-1])
    return data


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def save(name: str, data: Mapping[str, object]) -> Path:
    """Write a result as benchmarks/results/<name>.json, with the machine and the versions it was measured with."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    facts = {"machine": machine.describe(), "versions": machine.versions()}
    path.write_text(json.dumps({**facts, **data}, indent=1) + "\n", encoding="utf-8")
    return path


def saved(name: str) -> dict[str, object]:
    """A result of before, to add to; empty if there is none."""
    path = RESULTS / f"{name}.json"
    found: dict[str, object] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def options(description: str | None, *, folder: bool = True) -> argparse.ArgumentParser:
    """What every benchmark takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if folder:
        parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where to work; a memory file system measures no disk")
    parser.add_argument("--save", default="", metavar="NAME", help="write the result below benchmarks/results/, for the machine NAME")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


@contextmanager
def scratch(folder: Path | None = None) -> Iterator[Path]:
    """A new folder, removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="torpor-bench-", dir=folder))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def repository(folder: Path) -> dict[str, str]:
    """The environment in which torpor has its home and its repository in `folder`."""
    return {**environment(), "TORPOR_HOME": str(folder / "home"), "TORPOR_STORAGE": (folder / "repository").as_uri()}


def size_of(path: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(entry.lstat().st_size for entry in path.rglob("*") if entry.is_file() and not entry.is_symlink())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain text table, first column to the left."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, ["-" * width for width in widths], *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells))
    return "\n".join(lines)
