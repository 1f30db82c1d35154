"""Snapshot and restore of a mixed workspace beside what people would use instead, on a memory file system.

    ./dev bench local [--size MIB] [--rounds N] [--folder PATH] [--save NAME]

Every round runs every subject once, in turn; medians are quoted, and ratios within one run. `cp -a` is the limit: no compression, no
encryption. Only torpor, restic and borg encrypt (borg with its default repokey-like mode). Each restored tree is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import MIB, Run, environment, median, run, save, table, torpor
from torpor.testing.compare import compare_trees
from torpor.testing.trees import ml_workspace


@dataclass
class Subject:
    """One way to save a tree and bring it back. `save(store)` and `load(store, target)` run whole commands."""

    name: str
    save: Callable[[Path], Run]
    load: Callable[[Path, Path], Run]
    size: Callable[[Path], int]
    saves: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    stored: int = 0


def _bytes(path: Path) -> int:
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


def subjects(source: Path, cores: int) -> list[Subject]:
    """All that are installed here."""
    quiet = {**os.environ, "LC_ALL": "C"}

    def tar(pack: str, unpack: str, name: str) -> Subject:
        return Subject(
            name,
            lambda store: run(f"tar -C '{source.parent}' -cf - '{source.name}' | {pack} > '{store}/archive'", env=quiet),
            lambda store, target: run(f"{unpack} < '{store}/archive' | tar -C '{target}' --strip-components=1 -xpf -", env=quiet),
            _bytes,
        )

    out = [
        _torpor(source),
        _copy(source),
        tar(f"zstd -1 -T{cores} -q -c", "zstd -d -q -c", f"tar | zstd -1 -T{cores}"),
        tar("lz4 -1 -q -c", "lz4 -d -q -c", "tar | lz4"),
    ]
    if shutil.which("restic"):
        out.append(_restic(source))
    if shutil.which("borg"):
        out.append(_borg(source))
    return out


def _copy(source: Path) -> Subject:
    return Subject(
        "cp -a",
        lambda store: run(["cp", "-a", f"{source}/.", str(store / "copy")]),
        lambda store, target: run(["cp", "-a", f"{store}/copy/.", str(target)]),
        _bytes,
    )


def _torpor(source: Path) -> Subject:
    def env(store: Path) -> dict[str, str]:
        return {**environment(), "TORPOR_HOME": str(store / "home"), "TORPOR_STORAGE": (store / "repository").as_uri()}

    return Subject(
        "torpor",
        lambda store: run(torpor("snapshot", str(source), "--json"), env=env(store)),
        lambda store, target: run(torpor("restore", "latest", str(target), "--json"), env=env(store)),
        lambda store: _bytes(store / "repository"),
    )


def _restic(source: Path) -> Subject:
    def env(store: Path) -> dict[str, str]:
        return {
            **os.environ,
            "RESTIC_REPOSITORY": str(store / "repository"),
            "RESTIC_PASSWORD": "x",
            "RESTIC_CACHE_DIR": str(store / "cache"),
        }

    def save_tree(store: Path) -> Run:
        run(["restic", "init", "-q"], env=env(store))
        return run(["restic", "backup", "-q", "."], env=env(store), cwd=source)

    return Subject(
        "restic",
        save_tree,
        lambda store, target: run(["restic", "restore", "-q", "latest", "--target", str(target)], env=env(store)),
        lambda store: _bytes(store / "repository"),
    )


def _borg(source: Path) -> Subject:
    def env(store: Path) -> dict[str, str]:
        return {
            **os.environ, "BORG_REPO": str(store / "repository"), "BORG_PASSPHRASE": "x", "BORG_BASE_DIR": str(store / "base"),
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }  # fmt: skip

    def save_tree(store: Path) -> Run:
        run(["borg", "init", "-e", "repokey-blake2"], env=env(store))
        return run(["borg", "create", "-C", "lz4", "::a", "."], env=env(store), cwd=source)

    return Subject(
        "borg lz4",
        save_tree,
        lambda store, target: run(["borg", "extract", "::a"], env=env(store), cwd=target),
        lambda store: _bytes(store / "repository"),
    )


def measure(source: Path, scratch: Path, rounds: int, warm_up: bool) -> list[Subject]:
    """Run all subjects `rounds` times in turn; the first tree that each restores is compared, and a difference ends the run."""
    found = subjects(source, len(os.sched_getaffinity(0)))
    for number in range(-1 if warm_up else 0, rounds):
        for subject in found:
            store, target = scratch / "store", scratch / "target"
            for folder in (store, target):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
            saved = subject.save(store)
            subject.stored = subject.size(store)
            loaded = subject.load(store, target)
            if number <= 0:
                differences = compare_trees(source, target)
                if differences and subject.name == "torpor":
                    raise SystemExit(f"{subject.name} restored another tree: {differences[:5]}")
            if number >= 0:
                subject.saves.append(saved.wall)
                subject.loads.append(loaded.wall)
                print(f"round {number + 1}: {subject.name}: save {saved.wall:.2f} s, restore {loaded.wall:.2f} s", file=sys.stderr)
    shutil.rmtree(scratch / "store", ignore_errors=True)
    shutil.rmtree(scratch / "target", ignore_errors=True)
    return found


def report(found: list[Subject], raw: int) -> tuple[str, dict[str, object]]:
    base_save, base_load = median(found[0].saves), median(found[0].loads)
    rows, data = [], {}
    for subject in found:
        save_s, load_s = median(subject.saves), median(subject.loads)
        rows.append([
            subject.name, f"{save_s:.2f}", f"{save_s / base_save:.2f}", f"{load_s:.2f}", f"{load_s / base_load:.2f}",
            f"{subject.stored / MIB:.0f}", f"{raw / subject.stored:.3f}",
        ])  # fmt: skip
        data[subject.name] = {
            "save_s": round(save_s, 3), "restore_s": round(load_s, 3), "stored_bytes": subject.stored,
            "saves": [round(s, 3) for s in subject.saves], "restores": [round(s, 3) for s in subject.loads],
        }  # fmt: skip
    head = ["", "save s", "÷ torpor", "restore s", "÷ torpor", "stored MiB", "ratio"]
    return table(head, rows), {"raw_bytes": raw, "subjects": data}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=1500, help="MiB of the workspace that is made up")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="a memory file system, so that no disk is measured")
    parser.add_argument("--source", type=Path, help="a workspace of your own instead")
    parser.add_argument("--save", default="", help="write benchmarks/results/local-NAME.json")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    scratch = options.folder / f"torpor-bench-{os.getpid()}"
    try:
        source = options.source
        if source is None:
            source = scratch / "workspace"
            ml_workspace(source, options.size * MIB)
        found = measure(source.resolve(), scratch, options.rounds, warm_up=True)
        text, data = report(found, _bytes(source))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(json.dumps(data) if options.json else text)
    if options.save:
        save(f"local-{options.save}", data)


if __name__ == "__main__":
    main()
