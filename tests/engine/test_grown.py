"""What happens between the walk and the reading: files that grew, and memory that ran out."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import Any

import pytest

from tests.engine.lab import Lab, same, write
from torpor.events import Event
from torpor.hibernate import small


@pytest.mark.parametrize("grown", [1_040_000, 1_060_000])
def test_small_files_that_no_longer_fit_their_bundle(grown: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read again, one by one or as large files: with the size and the times that they have by then."""
    root, fill = tmp_path / "workspace", small.fill
    done: list[int] = []
    for number in range(9):
        write(root / f"file{number}", os.urandom(400_000))
        os.utime(root / f"file{number}", (1, 1))

    def late(*arguments: Any) -> Any:
        for number in range(0 if done else 9):
            with open(root / f"file{number}", "ab") as file:
                file.write(os.urandom(grown - 400_000))
        done.append(1)
        return fill(*arguments)

    monkeypatch.setattr("torpor.hibernate.bundler.fill", late)
    lab = Lab(tmp_path / "lab")
    lab.take(root)
    lab.check_all()
    lab.restore(tmp_path / "back")
    same(root, tmp_path / "back")
    write(root / "file3", os.urandom(grown))
    lab.take(root)
    lab.restore(tmp_path / "again")
    same(root, tmp_path / "again")


def test_no_memory_is_no_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot without the file would be whole but for it, and somebody may accept that."""
    write(tmp_path / "workspace" / "large", b"text " * 800_000)
    lab, made = Lab(tmp_path / "lab"), mmap.mmap
    reading: list[Event] = []

    def none_left(*arguments: Any, **more: Any) -> Any:
        if reading:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return made(*arguments, **more)

    def listen(event: Event) -> None:
        if event.kind == "first_byte":
            reading.append(event)

    monkeypatch.setattr("torpor.pages.mmap", none_left)
    with pytest.raises(MemoryError, match="no memory for"):
        lab.take(tmp_path / "workspace", listen=listen)
    reading.clear()
    assert lab.take(tmp_path / "workspace").result.problems == dict.fromkeys(("unreadable", "vanished", "torn", "special"), 0)
