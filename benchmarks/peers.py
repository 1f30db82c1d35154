"""What people would use instead of torpor, as whole commands, each at its own fast settings; and `cp -a`, the limit.

Only torpor, restic and borg encrypt. ZipNN is a library for weights: it is a row where an interpreter that has it is named.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import last_json, repository, run, size_of, torpor


@dataclass(frozen=True)
class Peer:
    """One way to save a tree and bring it back.

    `prepare(store)` makes an empty repository and is not timed. `save(source, store)` and `load(store, target)`, of what was saved
    last, return seconds. `stored(store)` are bytes. `keeps`: a second save adds to the first.
    """

    name: str
    save: Callable[[Path, Path], float]
    load: Callable[[Path, Path], float]
    stored: Callable[[Path], int] = size_of
    prepare: Callable[[Path], object] = bool
    keeps: bool = False
    compresses: bool = True


def _repository_size(store: Path) -> int:
    return size_of(store / "repository")


def _torpor() -> Peer:
    return Peer(
        "torpor",
        lambda source, store: run(torpor("snapshot", str(source), "--json"), env=repository(store)).wall,
        lambda store, target: run(torpor("restore", "latest", str(target), "--json"), env=repository(store)).wall,
        _repository_size,
        keeps=True,
    )


def _copy() -> Peer:
    return Peer(
        "cp -a",
        lambda source, store: run(["cp", "-a", f"{source}/.", str(store / "copy")]).wall,
        lambda store, target: run(["cp", "-a", f"{store}/copy/.", str(target)]).wall,
        compresses=False,
    )


def _tar(name: str, pack: str, unpack: str) -> Peer:
    quiet = {**os.environ, "LC_ALL": "C"}
    return Peer(
        f"tar | {name}",
        lambda source, store: run(f"tar -C '{source}' -cf - . | {pack} > '{store}/archive'", env=quiet).wall,
        lambda store, target: run(f"{unpack} < '{store}/archive' | tar -C '{target}' -xpf -", env=quiet).wall,
    )


def _restic() -> Peer:
    def env(store: Path) -> dict[str, str]:
        own = {"RESTIC_REPOSITORY": str(store / "repository"), "RESTIC_PASSWORD": "x", "RESTIC_CACHE_DIR": str(store / "cache")}
        return {**os.environ, **own}

    return Peer(
        "restic",
        lambda source, store: run(["restic", "backup", "-q", "."], env=env(store), cwd=source).wall,
        lambda store, target: run(["restic", "restore", "-q", "latest", "--target", str(target)], env=env(store)).wall,
        _repository_size,
        lambda store: run(["restic", "init", "-q"], env=env(store)),
        keeps=True,
    )


def _borg() -> Peer:
    def env(store: Path) -> dict[str, str]:
        own = {"BORG_REPO": str(store / "repository"), "BORG_PASSPHRASE": "x", "BORG_BASE_DIR": str(store / "base")}
        return {**os.environ, **own, "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}

    def save(source: Path, store: Path) -> float:
        taken = len(list(store.glob("archive-*")))
        seconds = run(["borg", "create", "-C", "lz4", f"::a{taken}", "."], env=env(store), cwd=source).wall
        (store / f"archive-{taken}").touch()
        return seconds

    def load(store: Path, target: Path) -> float:
        last = len(list(store.glob("archive-*"))) - 1
        return run(["borg", "extract", f"::a{last}"], env=env(store), cwd=target).wall

    return Peer(
        "borg lz4", save, load, _repository_size, lambda store: run(["borg", "init", "-e", "repokey-blake2"], env=env(store)), keeps=True
    )


def _zipnn(interpreter: str, dtype: str, cores: int) -> Peer:
    """Its seconds are told by the script itself: without the imports of the library, which take longer than the work."""
    script = str(Path(__file__).with_name("zipnn_files.py"))

    def call(what: str, source: Path, target: Path) -> float:
        done = run([interpreter, script, what, str(source), str(target), dtype, str(cores)])
        return float(str(last_json(done.output)["seconds"]))

    return Peer(
        "ZipNN",
        lambda source, store: call("compress", source, store / "files"),
        lambda store, target: call("decompress", store / "files", target),
    )


def installed(cores: int, zipnn: str = "", dtype: str = "") -> list[Peer]:
    """torpor, and every peer that is installed here. `zipnn`: an interpreter that has it, for weights of `dtype`."""
    found = [_torpor(), _copy()]
    if shutil.which("zstd"):
        found.append(_tar(f"zstd -1 -T{cores}", f"zstd -1 -T{cores} -q -c", "zstd -d -q -c"))
    if shutil.which("lz4"):
        found.append(_tar("lz4", "lz4 -1 -q -c", "lz4 -d -q -c"))
    if shutil.which("restic"):
        found.append(_restic())
    if shutil.which("borg"):
        found.append(_borg())
    if zipnn and dtype:
        found.append(_zipnn(zipnn, dtype, cores))
    return found
