"""What a snapshot and a restore cost as files and bytes grow: seconds and the peak memory of all processes; and opening an index.

    ./dev bench scale [--files N] [--sparse-gib N] [--gib N] [--folder PATH] [--save NAME]

Files: 1,000, 10,000 … N, of about 200 bytes. Sparse: one file of 1, 2, 4 … N GiB with 4 MiB of data in every 64 MiB. Weights: 1, 2, 4 …
N GiB of bf16, no holes. Mixed: a training machine of 800 MiB. `growth` has the exponent of seconds over size between the last two
sizes of a series: 1 is linear, and less says that the start of the process counts. The limit of memory is 512 MiB, at default settings.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.measure import MIB, SETTLE, last_json, options, repository, run, save, scratch, table, torpor
from benchmarks.workspaces import ROWS, many, sparse
from torpor.control import catalogue
from torpor.control.listing import opened
from torpor.control.repository import open_repository
from torpor.settings import load

LIMIT = 512 * MIB

Point = dict[str, float]
JOBS = ("snapshot", "unchanged", "restore")


def weights(root: Path, gib: int) -> None:
    ROWS["bf16"].make(root, gib * 1024 * MIB)


def mixed(root: Path, mib: int) -> None:
    ROWS["mixed"].make(root, mib * MIB)


def measure(folder: Path, make: Callable[[Path, int], object], size: int) -> Point:
    """One workspace: made, saved, saved again, restored; its index opened."""
    env = repository(folder)
    source = folder / "workspace"
    make(source, size)
    time.sleep(SETTLE)
    taken = run(torpor("snapshot", str(source), "--json"), env=env, memory=True)
    again = run(torpor("snapshot", str(source), "--json"), env=env, memory=True)
    shutil.rmtree(source)
    back = run(torpor("restore", "latest", str(folder / "target"), "--json"), env=env, memory=True)
    facts = last_json(taken.output)
    point: Point = {"size": size, "files": int(str(facts["files"])), "raw_bytes": int(str(facts["raw_bytes"]))}
    for name, done in zip(JOBS, (taken, again, back), strict=True):
        point |= {f"{name}_s": round(done.wall, 3), f"{name}_cpu_s": round(done.cpu, 3), f"{name}_peak": done.peak}
    return point | open_index(env)


def open_index(env: dict[str, str]) -> Point:
    """Seconds until the newest snapshot's index is open, and until every entry of it was read and checked."""
    store = open_repository(load(env))
    snapshot = catalogue.load(store, catalogue.ids(store)[-1])
    began = time.perf_counter()
    with opened(store, snapshot) as index:
        at = time.perf_counter() - began
        entries = sum(len(block) for block in index.checked_blocks())
        checked = time.perf_counter() - began
    return {
        "entries": entries,
        "index_bytes": snapshot.manifest.index.size,
        "index_open_s": round(at, 4),
        "index_check_s": round(checked, 4),
    }


def growth(points: list[Point]) -> dict[str, float]:
    """By job, between the last two sizes: the exponent of seconds over size, and seconds for one more unit of size."""
    if len(points) < 2:
        return {}
    before, last = points[-2:]
    out: dict[str, float] = {}
    for name in (*JOBS, "index_open"):
        key = f"{name}_s"
        out[f"{name}_exponent"] = round(math.log(last[key] / before[key]) / math.log(last["size"] / before["size"]), 3)
        out[f"{name}_s_a_unit"] = float(f"{(last[key] - before[key]) / (last['size'] - before['size']):.3g}")
    return out


def powers(base: int, first: int, last: int) -> Iterator[int]:
    """`first`, then `base` times as much each time, up to `last`, which is always among them."""
    while first < last:
        yield first
        first *= base
    yield last


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--files", type=int, default=100_000, help="the most files; 0 leaves the series out, as with the others")
    parser.add_argument("--sparse-gib", type=int, default=8)
    parser.add_argument("--gib", type=int, default=2)
    parser.add_argument("--mixed-mib", type=int, default=800)
    given = parser.parse_args()
    series: list[tuple[str, Callable[[Path, int], object], Iterator[int], int]] = [
        ("files", many, powers(10, 1000, given.files), given.files),
        ("sparse GiB", sparse, powers(2, 1, given.sparse_gib), given.sparse_gib),
        ("weights GiB", weights, powers(2, 1, given.gib), given.gib),
        ("mixed MiB", mixed, iter([given.mixed_mib]), given.mixed_mib),
    ]
    data: dict[str, object] = {"limit_bytes": LIMIT}
    rows: list[list[str]] = []
    for name, make, sizes, wanted in series:
        points: list[Point] = []
        for size in sizes if wanted else ():
            with scratch(given.folder) as folder:
                points.append(measure(folder, make, size))
            rows.append(_row(name, points[-1]))
            print(f"{name} {size}: {points[-1]}", file=sys.stderr, flush=True)
        if points:
            data[name] = {"points": points, "growth": growth(points)}
    head = ["", *(text for name in JOBS for text in (f"{name} s", "MiB")), "index MiB", "open s", "check s", f"≤ {LIMIT // MIB} MiB"]
    print(json.dumps(data) if given.json else table(head, rows))
    for name, _, _, _ in series:
        found = data.get(name)
        if isinstance(found, dict) and found["growth"] and not given.json:
            print(f"{name}: {json.dumps(found['growth'])}")
    if given.save:
        save(f"scale-{given.save}", data | {"folder": os.fspath(given.folder)})


def _row(name: str, point: Point) -> list[str]:
    cells = [text for job in JOBS for text in (f"{point[f'{job}_s']:.2f}", f"{point[f'{job}_peak'] / MIB:.0f}")]
    within = max(point[f"{job}_peak"] for job in JOBS) <= LIMIT
    index = [f"{point['index_bytes'] / MIB:.2f}", f"{point['index_open_s']:.3f}", f"{point['index_check_s']:.3f}"]
    return [f"{name} {point['size']:,}", *cells, *index, "ok" if within else "OVER"]


if __name__ == "__main__":
    main()
