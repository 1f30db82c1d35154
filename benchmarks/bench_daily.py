"""Two months of daily snapshots of a workspace that changes, with retention and prune each day: what is stored, and what a restore costs.

    ./dev bench daily [--size MIB] [--days N] [--part PART] [--pack MIB] [--save NAME]

With consolidation, which writes what is left of thin packs anew, and without. The store is in memory and the clock is turned, so that
no time is measured but that of the restore: requests and bytes are what a distant store would see. Packs are smaller than usual, as
the workspace is, and so is the least that a day may consolidate; so the shape is that of a workspace 32 MiB / PACK times as large.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

from benchmarks.measure import MIB, options, save, scratch, table
from torpor.clock import FakeClock
from torpor.control import catalogue, heads, prune, restores, retain, snapshots
from torpor.control.repository import Repository, open_repository
from torpor.events import ignore
from torpor.hibernate import dedupe, packer
from torpor.jobs import Scope
from torpor.plan.retention import DAY, Policy
from torpor.remote.host import InProcess
from torpor.settings import load
from torpor.storage.memory import MemoryStore
from torpor.testing.compare import compare_trees

LARGE = 8 * MIB
PIECE = 4 * MIB


class Workspace:
    """Half of it files of 2 to 200 kB, half of it files of 8 MiB; nothing compresses, so that bytes are bytes."""

    def __init__(self, root: Path, size: int) -> None:
        self._root = root
        self._random = Random(1)
        self._count = 0
        self.small: dict[Path, int] = {}
        self.large: list[Path] = []
        for folder in ("small", "large"):
            (root / folder).mkdir(parents=True)
        self._add_small(size // 2)
        for number in range(max(1, size // 2 // LARGE)):
            self.large.append(root / f"large/{number}.bin")
            self.large[-1].write_bytes(self._random.randbytes(LARGE))

    def _add_small(self, budget: int) -> None:
        while budget > 0:
            length = self._random.randrange(2_000, 200_000)
            path = self._root / f"small/{self._count % 20:02d}-{self._count:05d}.dat"
            self._count += 1
            path.write_bytes(self._random.randbytes(length))
            self.small[path] = length
            budget -= length

    def change(self, budget: int) -> None:
        """A day's work: of `budget` bytes a third each to small files that change, to small ones that go for new ones, to large ones."""
        for fate in ("change", "go"):
            left = budget // 3
            while left > 0:
                path = self._random.choice(sorted(self.small))
                left -= self.small[path]
                if fate == "change":
                    path.write_bytes(self._random.randbytes(self.small[path]))
                else:
                    path.unlink()
                    self._add_small(self.small.pop(path))
        for _ in range(max(1, round(budget / 3 / PIECE))):
            with open(self._random.choice(self.large), "r+b") as file:
                file.seek(self._random.randrange(LARGE // PIECE) * PIECE)
                file.write(self._random.randbytes(PIECE))


class Day(NamedTuple):
    """Bytes: `new` of the snapshot's own packs and index, `stored` in the bucket after prune. `packs`: that the snapshot names."""

    new: int
    stored: int
    packs: int


@contextmanager
def shape(pack: int, part: float) -> Iterator[None]:
    """Packs of `pack` bytes, and up to `part` of the workspace consolidated a day."""
    places = (vars(packer), "PACK_TARGET", pack), (vars(dedupe), "CONSOLIDATE", part), (vars(dedupe), "CONSOLIDATE_MIN", 0)
    before = [module[name] for module, name, _ in places]
    for module, name, value in places:
        module[name] = value
    try:
        yield
    finally:
        for (module, name, _), value in zip(places, before, strict=True):
            module[name] = value


def one_day(repository: Repository, clock: FakeClock, scope: Scope, state: bytes) -> Day:
    clock.advance(DAY + 1)
    taken = snapshots.take(repository, InProcess(), scope, state, snapshots.Options(), ignore)
    retain.carry_out(repository, retain.plan(repository, Policy()))
    prune.prune(repository)
    stored = sum(info.size for info in repository.store.list("packs/"))
    return Day(taken.snapshot.manifest.new_bytes, stored, len(heads.head_of(repository, taken.snapshot.manifest).packs))


def life(folder: Path, size: int, days: int, part: float) -> dict[str, object]:
    """All days, then a restore of the last, compared."""
    clock = FakeClock(1_900_000_000.0)
    store = MemoryStore(clock)
    repository = open_repository(load({"TORPOR_HOME": str(folder / "home")}, store.url), create=True, clock=clock)
    root = folder / "workspace"
    workspace = Workspace(root, size)
    scope, state = Scope(roots=[os.fsencode(root)]), os.fsencode(folder / "state")
    found = [one_day(repository, clock, scope, state)]
    for _ in range(days):
        workspace.change(int(size * part))
        found.append(one_day(repository, clock, scope, state))
    newest = catalogue.ids(repository)[-1]
    target = folder / "target"
    result = restores.restore(repository, InProcess(), newest, os.fsencode(target), os.fsencode(folder / "new"), restores.Options(), ignore)
    differences = compare_trees(root, target)
    if differences:
        raise SystemExit(f"the restore differs: {differences[:3]}")
    raw = result.raw_bytes
    return {
        "raw_bytes": raw, "stored_bytes": found[-1].stored, "most_stored_bytes": max(day.stored for day in found),
        "new_bytes_a_day": int(statistics.mean(day.new for day in found[1:])), "packs": found[-1].packs,
        "snapshots": len(catalogue.ids(repository)),
        "restore_requests": result.requests, "restore_bytes": result.fetched_bytes, "restore_seconds": round(result.seconds, 3),
        "stored_by_day": [day.stored for day in found], "packs_by_day": [day.packs for day in found],
    }  # fmt: skip


ROWS = {
    "workspace, MB": "raw_bytes", "in the bucket on the last day, MB": "stored_bytes", "most in the bucket, MB": "most_stored_bytes",
    "new a day, MB": "new_bytes_a_day", "packs that the last snapshot names": "packs", "snapshots kept": "snapshots",
    "restore: requests": "restore_requests", "restore: fetched, MB": "restore_bytes", "restore: seconds": "restore_seconds",
}  # fmt: skip


def cell(name: str, value: object) -> str:
    assert isinstance(value, int | float)
    return f"{value / 1e6:.1f}" if name.endswith("MB") else f"{value:g}"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--size", type=int, default=96, help="MiB")
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--part", type=float, default=0.03, help="what a day changes")
    parser.add_argument("--pack", type=int, default=4, help="MiB of a pack, instead of 32")
    given = parser.parse_args()
    found: dict[str, dict[str, object]] = {}
    for name, consolidate in (("without", 0.0), ("with", dedupe.CONSOLIDATE)):
        with scratch(given.folder) as folder, shape(given.pack * MIB, consolidate):
            found[name] = life(folder, given.size * MIB, given.days, given.part)
    rows = [[text, *(cell(text, found[name][key]) for name in found)] for text, key in ROWS.items()]
    print(json.dumps(found) if given.json else table(["consolidation", *found], rows))
    if given.save:
        about = {"size": given.size * MIB, "days": given.days, "part": given.part, "pack": given.pack * MIB}
        save(f"daily-{given.save}", {**about, **found})


if __name__ == "__main__":
    main()
