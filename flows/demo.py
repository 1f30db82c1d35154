"""The whole life of a machine in a minute, on this computer: hibernate, destroy, wake on another, compare every file.

    python -m flows.demo [PATH]                  for people
    python -m flows.demo --json-parameters -     for `torpor demo`: {"path": …}, and the lines of flows.launch

PATH, a folder, is only read. Everything happens in a temporary folder with keys, storage, machines and a Prefect server of its own.
"""

from __future__ import annotations

import argparse
import glob
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows import launch, server
from torpor.control.repository import open_repository
from torpor.errors import Damaged, Interrupted, NoSpace, TorporError, UsageError
from torpor.events import Event
from torpor.machines.base import Ground
from torpor.machines.local import LocalMachine
from torpor.settings import load

SIZE = 600 * 1024 * 1024
FIRST, SECOND = "gpu-1", "gpu-2"
_MAKE = """
import pathlib, sys
from torpor.testing.trees import ml_workspace
ml_workspace(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
"""

Tell = Callable[[str], None]


def check_path(path: Path) -> int:
    """Bytes below `path`. Raises `UsageError` if it is no folder, `NoSpace` if three copies of it do not fit."""
    if not path.is_dir():
        raise UsageError(f"{path} is no folder.", remedy="Name one, or none to make a workspace up.")
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if 3 * total > free:
        raise NoSpace(
            f"Three copies of {total / 1e9:.1f} GB do not fit into {tempfile.gettempdir()}, where {free / 1e9:.1f} GB are free.",
            safe="Nothing was copied.",
            remedy="Set TMPDIR to a folder with room, or name a smaller folder.",
        )
    return total


@contextmanager
def workspace(folder: Path, path: Path | None) -> Iterator[Callable[[], Path]]:
    """The original: `path` itself, or one that a process makes while others start; the call waits for it."""
    if path is not None:
        yield lambda: path
        return
    original = folder / "original"
    process = subprocess.Popen([sys.executable, "-c", _MAKE, str(original), str(SIZE)])

    def wait() -> Path:
        if process.wait():
            raise NoSpace("The workspace could not be made.", remedy=f"Is there a gigabyte free in {folder.parent}?")
        return original

    try:
        yield wait
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def fill(machine: LocalMachine, original: Path) -> None:
    """A machine with a copy of the original as its workspace."""
    machine.create()
    copied = subprocess.run(["cp", "-a", "--reflink=auto", f"{original}/.", str(machine.workspace)], check=False, capture_output=True)
    if copied.returncode:
        raise UsageError(f"{original} can't be copied: {copied.stderr.decode(errors='replace').strip()[:300]}")


def differences(original: Path, woken: Path) -> list[str]:
    """What is not as it was. Sockets, pipes and devices are in no snapshot, and neither is what a .torporignore leaves out."""
    from torpor.testing.compare import compare_trees

    special: list[str] = []
    ignoring = False
    for folder, _, files in os.walk(original):
        ignoring = ignoring or ".torporignore" in files
        for name in files:
            mode = os.lstat(os.path.join(folder, name)).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                special.append(glob.escape(os.path.relpath(os.path.join(folder, name), original)))
    found = compare_trees(original, woken, ignore=special)
    return [line for line in found if not (ignoring and line.endswith(": only in the first"))]


def demo(stops: launch.Stops, path: Path | None, tell: Tell) -> dict[str, Any]:
    """Everything, from an empty folder to the table. Raises `Damaged` if a file came back as another."""
    if path is not None:
        check_path(path)
    try:
        return _demo(stops, path, tell)
    except Interrupted as error:
        raise Interrupted("The demo was stopped.", safe="Its temporary folder is gone; nothing else was touched.") from error


def _demo(stops: launch.Stops, path: Path | None, tell: Tell) -> dict[str, Any]:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torpor-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _own_environment(folder)
        machines = load().home / "machines"
        first, second = LocalMachine(FIRST, Ground(machines)), LocalMachine(SECOND, Ground(machines))
        with workspace(folder, path) as original:
            tell(f"Starting a Prefect server of its own{'' if path else ', and making a workspace of 600 MiB'} …")
            with server.running(load().home) as url:
                tell(f"Watch it at {url.removesuffix('/api')}/runs while it runs.")
                source = original()
                fill(first, source)
                results = _life(stops, first, second, source, path is None, tell)
                results["seconds"] = round(time.monotonic() - began, 1)
                return results


def _life(stops: launch.Stops, first: LocalMachine, second: LocalMachine, source: Path, made_up: bool, tell: Tell) -> dict[str, Any]:
    from flows.demo_table import lines
    from flows.hibernate import hibernate
    from flows.wake import wake

    open_repository(load(), create=True)  # a machine is destroyed only into a repository that is there
    tell(f"{first.address} has a copy of {source}. Hibernating it.")
    slept = stops.run(lambda: hibernate(first.address, default_excludes=False))
    tell(f"{first.address} is {first.status().state}. Waking its snapshot on {second.address}.")
    woke = stops.run(lambda: wake(slept["snapshot"], on=second.address, setuid=True))
    tell("Comparing every file with the original.")
    different = differences(source, second.workspace)
    if different:
        raise Damaged(f"{len(different)} differences after the wake: {'; '.join(different[:5])}.", safe="The original was only read.")
    tell("All the same. Another snapshot, of the unchanged workspace.")
    again = stops.run(lambda: hibernate(second.address, destroy_after=False, verify="sample", default_excludes=False))
    return {"lines": lines(slept, woke, again, made_up), "hibernate": slept, "wake": woke, "second_snapshot": again, "differences": 0}


def _own_environment(folder: Path) -> None:
    """Nothing of the user's settings: other keys, another store, another server."""
    for name in [name for name in os.environ if name.startswith(("TORPOR_", "PREFECT_", "STORAGE_PROVIDER"))]:
        if not name.startswith("PREFECT_LOGGING_"):
            del os.environ[name]
    os.environ |= {
        "TORPOR_HOME": str(folder / "home"),
        "TORPOR_STORAGE": (folder / "store").as_uri(),
        "TORPOR_RECOVERY_CONFIRMED": "1",  # nothing here is worth a key on paper
        "PREFECT_HOME": str(folder / "home" / "prefect"),
    }


def _for_people(path: Path | None) -> int:
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)  # noqa: T201

    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    try:
        with launch.Stops() as stops:
            results = demo(stops, path, tell)
    except TorporError as error:
        print(f"torpor demo: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    print("\n" + "\n".join(results["lines"]))  # noqa: T201
    return 0


def _for_programs() -> dict[str, Any]:
    path = launch.parameters().get("path")
    with launch.Stops() as stops:
        return demo(stops, Path(path) if path else None, lambda text: launch.say("event", Event(kind="note", at=0.0, text=text)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.demo")
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--json-parameters", choices=["-"], help="read one JSON object from standard input")
    arguments = parser.parse_args()
    if arguments.json_parameters:
        return launch.answer(_for_programs)
    return _for_people(arguments.path.absolute() if arguments.path else None)


if __name__ == "__main__":
    sys.exit(main())
