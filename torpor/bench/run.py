"""All measurements of one machine, in a scratch folder that is gone afterwards, however they end."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from torpor.bench import compute, data, files, gpu, machine, whole
from torpor.bench.advice import Advice, Speeds, advise
from torpor.bench.rows import Row, digits
from torpor.clock import SYSTEM
from torpor.control.probe_store import check_store
from torpor.errors import Interrupted, NoSpace, NotFound, StorageUnavailable
from torpor.plan import limits
from torpor.storage.base import Store
from torpor.workspace import system

MIB = 1024 * 1024
SIZE = 256 * MIB
SIZE_MIN = 8 * MIB
SECONDS = 0.12  # of one figure of a core, with a workspace of SIZE or more
PREFIX = "torpor-bench-"

Say = Callable[[str], None]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured. `size`: bytes that were asked for; `peak_bytes`: the most memory this process held."""

    machine: dict[str, object]
    versions: dict[str, str]
    folder: str
    file_system: str
    size: int
    threads: int
    rows: list[Row]
    advice: Advice
    peak_bytes: int
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "machine": self.machine, "versions": self.versions, "date": self.machine["date"], "folder": self.folder,
            "file_system": self.file_system, "size": self.size, "threads": self.threads, "rows": [row.as_dict() for row in self.rows],
            "advice": self.advice.text, "bottleneck": self.advice.bottleneck,
            "allowed": {job: {part: digits(value) for part, value in parts.items()} for job, parts in self.advice.allowed.items()},
            "peak_bytes": self.peak_bytes, "seconds": round(self.seconds, 2),
        }  # fmt: skip


def run(folder: str, size: int, store: Store | None, say: Say) -> Result:
    """Measure with a made-up workspace of about `size` bytes below `folder`; with a `store`, the way to it too.

    Raises `NotFound` (no such folder), `NoSpace`, `Interrupted`, and what a snapshot raises. Nothing is left in the folder.
    """
    began = time.monotonic()
    system.no_math_threads()
    threads = limits.plan(limits.DEFAULT, system.cores()).workers
    with _scratch(folder, 4 * size) as scratch:
        rows, advice = _measure(scratch, size, threads, store, say)
    return Result(
        machine=machine.describe(), versions=machine.versions(), folder=os.path.abspath(folder), file_system=machine.file_system(folder),
        size=size, threads=threads, rows=rows, advice=advice, peak_bytes=machine.peak_bytes(), seconds=time.monotonic() - began,
    )  # fmt: skip


def _measure(scratch: Path, size: int, threads: int, store: Store | None, say: Say) -> tuple[list[Row], Advice]:
    seconds = SECONDS * min(1.0, size / SIZE)
    workspace = scratch / "workspace"
    say("making a workspace")
    data.workspace(workspace, size)
    say("memory, hash, seal")
    copy = compute.copy_speed(threads, seconds)
    rows = list(compute.memory(threads, seconds, copy))
    rows += compute.codecs(threads, seconds, copy, say)
    say("files and disk")
    on_disk = list(files.disk(scratch, size, copy))
    rows += [*on_disk, *files.tree(workspace, copy)]
    plain = files.plain_copy(workspace, scratch / "copy")
    bare = _seconds(lambda: files.bare_walk(workspace))
    done = whole.run(workspace, scratch, say)
    rows += _whole(done, plain, bare)
    up, down = None, None
    if store is not None:
        say("store")
        up, down = _link(store)
    rows += _store(up, down)
    say("GPU")
    rows += gpu.rows(seconds)
    return rows, advise(done, Speeds(write=on_disk[0].value or 0.0, read=on_disk[1].value or 0.0, up=up, down=down), threads)


def _whole(done: whole.Whole, plain: float, bare: float) -> Iterator[Row]:
    limit = "a plain copy"
    note = f"{done.files:,} files, {done.raw_bytes / 1e6:.0f} MB, ratio {done.ratio:.2f}"
    speed = done.raw_bytes / 1e9
    yield Row(group="whole", name="plain copy", value=plain, unit="s", note=f"one thread, nothing compressed; {speed / plain:.2f} GB/s")
    yield Row(group="whole", name="snapshot", value=done.snapshot.wall, unit="s", limit=plain, limit_name=limit, note=note)
    yield Row(group="whole", name="unchanged snapshot", value=done.unchanged.wall, unit="s", limit=bare, limit_name="scandir and stat")
    yield Row(group="whole", name="restore", value=done.restore.wall, unit="s", limit=plain, limit_name=limit, note="compared")


def _link(store: Store) -> tuple[float, float]:
    """GB/s to a store and from it, by several requests at once. Raises `StorageUnavailable`."""
    with closing(check_store(store, SYSTEM)) as checks:
        for check in checks:
            if check.state == "fail":
                raise StorageUnavailable(f"{check.name}: {check.text}.", safe="Nothing was changed.", remedy=check.remedy)
            if check.name == "throughput" and check.figures is not None:
                return check.figures["up_mb_per_s"] / 1000, check.figures["down_mb_per_s"] / 1000
    raise StorageUnavailable(f"The way to {store.url} was not measured.", remedy="Run `torpor doctor`.")


def _store(up: float | None, down: float | None) -> Iterator[Row]:
    note = "several requests at once" if up is not None else "no store was named"
    yield Row(group="store", name="put", value=up, unit="GB/s", note=note)
    yield Row(group="store", name="get", value=down, unit="GB/s", note=note)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@contextmanager
def _scratch(folder: str, need: int) -> Iterator[Path]:
    """A new folder below `folder`, removed at the end. `need`: bytes that must be free."""
    if not os.path.isdir(folder):
        raise NotFound(f"There is no folder {folder}.", safe="Nothing was measured.", remedy="Give --folder a folder that exists.")
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    smaller = "Give a smaller --size, or another --folder."
    if free < need:
        raise NoSpace(f"{need // MIB} MiB are needed in {folder}, {free // MIB} are free.", safe="Nothing was measured.", remedy=smaller)
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
    try:
        yield path
    except Interrupted:
        raise Interrupted("The measurement was stopped.", safe="Its folder was removed; nothing else was touched.") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{folder} is full.", safe="What was written there was removed.", remedy=smaller) from error
        raise
    finally:
        shutil.rmtree(path, ignore_errors=True)
