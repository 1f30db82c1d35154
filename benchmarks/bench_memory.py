"""Peak memory of all processes together, for the shapes that break other tools: one huge sparse file, very many small files, a mix.

    ./dev bench memory [--files N] [--sparse-gib N] [--folder PATH] [--save NAME]

The limit is 512 MiB at default settings, for snapshot and for restore.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

from benchmarks.measure import MIB, environment, last_json, run, save, table, torpor
from torpor.testing.trees import ml_workspace

LIMIT = 512 * MIB


def sparse(root: Path, gib: int) -> None:
    """One file of `gib` GiB with 4 MiB of data in every 64 MiB."""
    root.mkdir(parents=True)
    piece = os.urandom(MIB)
    with open(root / "disk.img", "wb") as file:
        file.truncate(gib * 1024 * MIB)
        for at in range(0, gib * 1024 * MIB, 64 * MIB):
            file.seek(at)
            file.writelines(piece[number:] + piece[:number] for number in range(4))


def many(root: Path, count: int) -> None:
    """`count` files of about 200 bytes, 500 a folder."""
    for number in range(count):
        if number % 500 == 0:
            folder = root / f"{number // 50_000:03d}" / f"{number // 500:05d}"
            folder.mkdir(parents=True)
        (folder / f"file-{number:07d}.txt").write_text(f"{number}\n" * 24)


def mixed(root: Path, _: int) -> None:
    ml_workspace(root, 800 * MIB)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--sparse-gib", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--save", default="")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    shapes = [("sparse file", sparse, options.sparse_gib), ("small files", many, options.files), ("mixed", mixed, 0)]
    rows, data = [], {}
    for name, make, size in shapes:
        scratch = options.folder / f"torpor-bench-{os.getpid()}"
        env = {**environment(), "TORPOR_HOME": str(scratch / "home"), "TORPOR_STORAGE": (scratch / "repository").as_uri()}
        try:
            make(scratch / "workspace", size)
            taken = run(torpor("snapshot", str(scratch / "workspace"), "--json"), env=env, memory=True)
            again = run(torpor("snapshot", str(scratch / "workspace"), "--json"), env=env, memory=True)
            back = run(torpor("restore", "latest", str(scratch / "target"), "--json"), env=env, memory=True)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        facts = last_json(taken.output)
        files, raw = int(str(facts["files"])), int(str(facts["raw_bytes"]))
        worst = max(taken.peak, again.peak, back.peak)
        data[name] = {
            "files": files, "raw_bytes": raw, "snapshot_s": round(taken.wall, 2), "unchanged_s": round(again.wall, 2),
            "restore_s": round(back.wall, 2), "snapshot_peak": taken.peak, "unchanged_peak": again.peak, "restore_peak": back.peak,
        }  # fmt: skip
        rows.append([
            f"{name} ({files} files, {raw / 1e9:.2f} GB)",
            f"{taken.wall:.1f}", f"{taken.peak / MIB:.0f}", f"{again.wall:.1f}", f"{again.peak / MIB:.0f}",
            f"{back.wall:.1f}", f"{back.peak / MIB:.0f}", "ok" if worst <= LIMIT else "OVER",
        ])  # fmt: skip
    head = ["", "snapshot s", "MiB", "unchanged s", "MiB", "restore s", "MiB", f"≤ {LIMIT // MIB} MiB"]
    print(json.dumps(data) if options.json else table(head, rows))
    if options.save:
        save(f"memory-{options.save}", data)


if __name__ == "__main__":
    main()
