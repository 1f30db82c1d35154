"""torpor beside what people would use instead, on a memory file system: whole commands, interleaved, medians, every tree compared.

    ./dev bench peers [--only NAME …] [--size MIB] [--rounds N] [--folder PATH] [--source PATH] [--zipnn PYTHON] [--save NAME]

Every round runs every peer once, and begins with another one. `cp -a` is the limit: it neither compresses nor encrypts. On `day`, each
round changes about 3 % of the workspace and every tool that keeps increments saves that; seconds, and the bytes it added.
ZipNN installs where a C compiler is, and brings torch along, so it has a row where --zipnn names an interpreter that has it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CalledProcessError

from benchmarks.measure import MIB, SETTLE, median, options, save, saved, scratch, size_of, table
from benchmarks.peers import Peer, installed
from benchmarks.workspaces import ROWS, USUAL, change
from torpor.testing.compare import compare_trees


@dataclass
class Times:
    """What one peer took. `agains`: saves of an unchanged workspace; `news`: bytes that each day added; `differences`: of all trees."""

    peer: Peer
    saves: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    agains: list[float] = field(default_factory=list)
    news: list[int] = field(default_factory=list)
    stored: int = 0
    differences: list[str] = field(default_factory=list)
    failures: int = 0

    def failed(self, error: CalledProcessError) -> None:
        """A command of this peer failed: its round is lost, and the others go on. torpor's ends the run."""
        if self.peer.name == "torpor":
            raise error
        self.failures += 1
        _say(f"{self.peer.name} failed: {error}")

    def compare(self, source: Path, target: Path) -> None:
        """Look at a restored tree; a difference ends the run if torpor made it, and is counted for others."""
        found = compare_trees(source, target)
        if found and self.peer.name == "torpor":
            raise SystemExit(f"torpor restored another tree: {found[:5]}")
        self.differences = found

    def as_dict(self) -> dict[str, object]:
        """Medians, and what they are of."""
        lists = {"saves": self.saves, "restores": self.loads, "unchanged": self.agains, "days": [float(new) for new in self.news]}
        medians = {"save_s": self.saves, "restore_s": self.loads, "unchanged_s": self.agains}
        out: dict[str, object] = {name: round(median(values), 3) for name, values in medians.items() if values}
        if self.news:
            out["new_bytes"] = int(median(self.news))
        out |= {
            "stored_bytes": self.stored,
            "compresses": self.peer.compresses,
            "differences": len(self.differences),
            "failures": self.failures,
        }
        if self.differences:
            out["first_difference"] = self.differences[0]
        return out | {name: [round(value, 3) for value in values] for name, values in lists.items() if values}


def _empty(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def whole(source: Path, folder: Path, peers: Sequence[Peer], rounds: int) -> list[Times]:
    """Save, save again if the tool keeps increments, restore, compare; one round more than `rounds`, which is not counted."""
    found = [Times(peer) for peer in peers]
    store, target = folder / "store", folder / "target"
    for number in range(-1, rounds):
        first = max(0, number) % len(found)
        for times in found[first:] + found[:first]:
            _empty(store, target)
            peer = times.peer
            try:
                peer.prepare(store)
                seconds = peer.save(source, store)
                times.stored = peer.stored(store)
                again = peer.save(source, store) if peer.keeps else None
                back = peer.load(store, target)
            except CalledProcessError as error:
                times.failed(error)
                continue
            times.compare(source, target)
            if number < 0:
                continue
            times.saves.append(seconds)
            times.loads.append(back)
            if again is not None:
                times.agains.append(again)
            _say(f"round {number + 1}: {peer.name}: save {seconds:.2f} s, restore {back:.2f} s")
    _empty(store, target)
    return [times for times in found if times.saves]


def days(source: Path, folder: Path, peers: Sequence[Peer], rounds: int) -> list[Times]:
    """Each round is one more day in the same stores; the tree of the last one is restored and compared."""
    found = [Times(peer) for peer in peers if peer.keeps]
    stores = {times.peer.name: folder / f"store {number}" for number, times in enumerate(found)}
    for times in found:
        store = stores[times.peer.name]
        _empty(store)
        times.peer.prepare(store)
        times.peer.save(source, store)
    for number in range(rounds):
        written = change(source, number)
        time.sleep(SETTLE)
        for times in found[number % len(found) :] + found[: number % len(found)]:
            store = stores[times.peer.name]
            before = times.peer.stored(store)
            times.saves.append(times.peer.save(source, store))
            times.stored = times.peer.stored(store)
            times.news.append(times.stored - before)
            new = f"{times.news[-1] / MIB:.1f} MiB new of {written / MIB:.1f}"
            _say(f"day {number + 1}: {times.peer.name}: save {times.saves[-1]:.2f} s, {new}")
    for times in found:
        target = folder / "target"
        _empty(target)
        times.loads.append(times.peer.load(stores[times.peer.name], target))
        times.compare(source, target)
    for path in (*stores.values(), folder / "target"):
        shutil.rmtree(path, ignore_errors=True)
    return found


def verdict(found: Sequence[Times]) -> dict[str, object]:
    """torpor beside the best of the peers that compress, and beside `cp -a`: above 1 is faster, or smaller."""
    ours = next((times for times in found if times.peer.name == "torpor"), None)
    peers = [times for times in found if times is not ours and times.peer.compresses]
    if ours is None or not peers:
        return {}
    out: dict[str, object] = {}
    for name, key in (("save", "saves"), ("restore", "loads"), ("unchanged", "agains")):
        values = {times.peer.name: median(getattr(times, key)) for times in peers if getattr(times, key)}
        if values and getattr(ours, key):
            best = min(values, key=values.__getitem__)
            out[f"{name}_speed"] = round(values[best] / median(getattr(ours, key)), 3)
            out[f"{name}_fastest"] = best
    copy = next((times for times in found if times.peer.name == "cp -a"), None)
    if copy is not None:
        out["restore_of_copy"] = round(median(ours.loads) / median(copy.loads), 3)
    size = "news" if ours.news else "stored"
    sizes = {times.peer.name: median(times.news) if size == "news" else times.stored for times in peers}
    least = min(sizes, key=sizes.__getitem__)
    out["stored_part"] = round((median(ours.news) if size == "news" else ours.stored) / sizes[least], 3)
    out["stored_least"] = least
    return out


def report(found: Sequence[Times], raw: int) -> str:
    """A table: seconds, ratios to torpor, bytes."""
    base = found[0]
    rows = []
    for times in found:
        small = median(times.news) if times.news else times.stored
        rows.append([
            times.peer.name,
            f"{median(times.saves):.2f}", f"{median(times.saves) / median(base.saves):.2f}",
            f"{median(times.agains):.2f}" if times.agains else "-",
            f"{median(times.loads):.2f}", f"{median(times.loads) / median(base.loads):.2f}",
            f"{small / MIB:.1f}", f"{raw / small:.3f}" if small else "-", str(len(times.differences)),
        ])  # fmt: skip
    new = "new MiB" if base.news else "stored MiB"
    return table(["", "save s", "÷ first", "unchanged s", "restore s", "÷ first", new, "ratio", "differences"], rows)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--size", type=int, default=USUAL // MIB, help="MiB of each workspace; its files grow with it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--source", type=Path, help="a workspace of your own instead of all of these")
    parser.add_argument("--zipnn", default="", metavar="PYTHON", help="an interpreter that has zipnn")
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    results: dict[str, object] = {}
    names = ["own"] if given.source else given.only
    for name in names:
        with scratch(given.folder) as folder:
            source = given.source or folder / "workspace"
            if given.source is None:
                _say(f"{name}: {ROWS[name].text}")
                ROWS[name].make(source, given.size * MIB)
                time.sleep(SETTLE)
            peers = installed(cores, given.zipnn, "" if given.source else ROWS[name].dtype)
            raw = size_of(source)
            found = (days if name == "day" else whole)(source.resolve(), folder, peers, given.rounds)
            files = sum(1 for path in source.rglob("*") if path.is_file())
        told = verdict(found)
        if not given.json:
            print(f"\n{name}: {files:,} files, {raw / 1e9:.2f} GB\n{report(found, raw)}\n{json.dumps(told)}", flush=True)
        peers_data = {times.peer.name: times.as_dict() for times in found}
        results[name] = {"raw_bytes": raw, "files": files, "rounds": given.rounds, "verdict": told, "peers": peers_data}
    if given.json:
        print(json.dumps(results))
    if given.save:
        before = saved(f"peers-{given.save}").get("workspaces")
        save(f"peers-{given.save}", {"workspaces": {**(before if isinstance(before, dict) else {}), **results}})


if __name__ == "__main__":
    main()
