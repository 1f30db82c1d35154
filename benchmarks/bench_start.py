"""From the start of the process to the first byte read, and to the version printed.

./dev bench start [--rounds N] [--save NAME]
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import median, options, repository, run, save, scratch, table, torpor

LIMIT_MS = 150.0


def first_byte(command: list[str], env: dict[str, str], path: Path) -> float:
    """Milliseconds until `path` is opened, told by the kernel (inotify through a tiny reader), not by the program."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_CLOEXEC)
    if watch < 0 or libc.inotify_add_watch(watch, os.fsencode(path), 0x1) < 0:  # IN_ACCESS
        raise OSError(ctypes.get_errno(), "inotify")
    began = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.read(watch, 4096)
    at = time.perf_counter() - began
    process.wait()
    os.close(watch)
    return at * 1000


def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each start, by what was started; the first round is not counted."""
    env = repository(folder)
    (folder / "workspace").mkdir()
    source = folder / "workspace" / "a.bin"
    source.write_bytes(os.urandom(2 << 20))
    run(torpor("snapshot", str(folder / "workspace"), "--json"), env=env)
    pack = next(path for path in (folder / "repository" / "packs").rglob("*-0") if path.is_file())
    times: dict[str, list[float]] = {"python -c pass": [], "--version": [], "snapshot": [], "restore": []}
    for number in range(rounds + 1):
        source.write_bytes(os.urandom(2 << 20))
        shutil.rmtree(folder / "target", ignore_errors=True)
        found = {
            "python -c pass": run([sys.executable, "-c", "pass"]).wall * 1000,
            "--version": run(torpor("--version"), env=env).wall * 1000,
            "restore": first_byte(torpor("restore", "latest", str(folder / "target"), "--json"), env, pack),
            "snapshot": first_byte(torpor("snapshot", str(folder / "workspace"), "--json"), env, source),
        }
        packs = [path for path in (folder / "repository" / "packs").rglob("*-0") if path.is_file()]
        pack = max(packs, key=lambda path: path.stat().st_mtime_ns)
        for name, value in found.items():
            if number:
                times[name].append(value)
    return times


def main() -> None:
    parser = options(__doc__, folder=False)
    parser.add_argument("--rounds", type=int, default=11)
    given = parser.parse_args()
    with scratch() as folder:
        times = measure(folder, given.rounds)
    rows = [[name, f"{median(values):.0f}", f"{min(values):.0f}", f"{max(values):.0f}"] for name, values in times.items()]
    data: dict[str, object] = {name: [round(value, 1) for value in values] for name, values in times.items()}
    print(json.dumps(data) if given.json else table(["ms", "median", "least", "most"], rows))
    print(f"limit: {LIMIT_MS:.0f} ms", file=sys.stderr)
    if given.save:
        save(f"start-{given.save}", data)


if __name__ == "__main__":
    main()
