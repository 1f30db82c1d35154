"""Files that are written to through memory: their times move with the first write to a page, and not with the next."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.lab import Lab, let_age, same, write
from torpor.events import Event
from torpor.native import kernels
from torpor.testing.samples import noise

MIB = 1 << 20
SIZES = pytest.mark.parametrize("size", [10_000, 2 * MIB], ids=["small", "large"])


@pytest.fixture(params=["compiled", "by hand"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    if request.param == "by hand":
        monkeypatch.setattr(kernels, "library", lambda: None)
    return Lab(tmp_path / "lab")


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A workspace on tmpfs."""
    path = Path("/dev/shm") / f"torpor-test-{os.getpid()}"
    path.mkdir()
    yield path
    shutil.rmtree(path)


def mapped(path: Path) -> mmap.mmap:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


@SIZES
def test_a_mapping_in_memory(lab: Lab, in_memory: Path, tmp_path: Path, size: int) -> None:
    path = write(in_memory / "file", noise(size))
    write(in_memory / "other", noise(size, 2))
    with mapped(path) as memory:
        memory[:8] = b"epoch-01"
        let_age(in_memory)
        lab.take(in_memory)
        before = path.stat()
        memory[:8] = b"epoch-02"
    assert path.stat().st_ctime_ns == before.st_ctime_ns
    assert lab.take(in_memory).result.read_files == 1
    lab.restore(tmp_path / "out")
    assert (tmp_path / "out/file").read_bytes()[:8] == b"epoch-02"
    same(in_memory, tmp_path / "out")
    assert lab.take(in_memory).result.read_files == 0  # nobody maps it any more


@SIZES
def test_a_page_that_is_written_to_since_all_was_on_the_disk(lab: Lab, root: Path, tmp_path: Path, size: int) -> None:
    """It is written to before the snapshot reads the file, long before, and after that: without a fault, so that no time moves."""
    path = write(root / "file", noise(size))
    memories: list[mmap.mmap] = []

    def listen(event: Event) -> None:
        if not memories and event.kind == "stage" and event.state == "started":
            memories.append(mapped(path))
            memories[0][:8] = b"epoch-01"
            let_age(root)

    lab.take(root, listen=listen)
    (memory,) = memories
    memory[:8] = b"epoch-02"
    memory.close()
    lab.take(root)
    lab.restore(tmp_path / "out")
    assert (tmp_path / "out/file").read_bytes()[:8] == b"epoch-02"
    same(root, tmp_path / "out")
