"""From the start of the process to the first byte read, and to the version printed.

./dev bench start [--rounds N] [--save NAME]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import environment, median, run, save, table, torpor

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--save", default="")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="torpor-bench-"))
    env = {**environment(), "TORPOR_HOME": str(scratch / "home"), "TORPOR_STORAGE": (scratch / "repository").as_uri()}
    try:
        (scratch / "workspace").mkdir()
        source = scratch / "workspace" / "a.bin"
        source.write_bytes(os.urandom(2 << 20))
        run(torpor("snapshot", str(scratch / "workspace"), "--json"), env=env)
        pack = next(path for path in (scratch / "repository" / "packs").rglob("*-0") if path.is_file())
        times: dict[str, list[float]] = {"python -c pass": [], "--version": [], "snapshot": [], "restore": []}
        for number in range(options.rounds + 1):
            source.write_bytes(os.urandom(2 << 20))
            shutil.rmtree(scratch / "target", ignore_errors=True)
            found = {
                "python -c pass": run([sys.executable, "-c", "pass"]).wall * 1000,
                "--version": run(torpor("--version"), env=env).wall * 1000,
                "restore": first_byte(torpor("restore", "latest", str(scratch / "target"), "--json"), env, pack),
                "snapshot": first_byte(torpor("snapshot", str(scratch / "workspace"), "--json"), env, source),
            }
            packs = [path for path in (scratch / "repository" / "packs").rglob("*-0") if path.is_file()]
            pack = max(packs, key=lambda path: path.stat().st_mtime_ns)
            for name, value in found.items():
                if number:
                    times[name].append(value)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    rows = [[name, f"{median(values):.0f}", f"{min(values):.0f}", f"{max(values):.0f}"] for name, values in times.items()]
    data: dict[str, object] = {name: [round(value, 1) for value in values] for name, values in times.items()}
    print(json.dumps(data) if options.json else table(["ms", "median", "least", "most"], rows))
    print(f"limit: {LIMIT_MS:.0f} ms", file=sys.stderr)
    if options.save:
        save(f"start-{options.save}", data)


if __name__ == "__main__":
    main()
