"""Stats in one piece: columns and rows of it are the same stats, with the compiled call and without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engine.lab import write
from torpor.native import kernels
from torpor.workspace.scan import Status, Statuses, scan, status_of

ONE = Status(1, 2, 3, 4, 5, -6, 7, 0o100644, 8, 9)
OTHER = Status(2**64 - 1, 2**63, 0, 1, 1, 2**62, -(2**62), 0o40755, 2**32 - 1, 0)


@pytest.mark.parametrize("found", [[], [ONE], [ONE, OTHER, ONE]])
def test_rows_and_columns_are_what_went_in(found: list[Status]) -> None:
    made = Statuses.of(found)
    assert list(made) == found
    assert [made[row] for row in range(-len(found), len(found))] == found * 2
    for name in Status._fields[:-1]:
        assert made.column(name).tolist() == [getattr(status, name) for status in found]
    for first in range(4):
        for last in range(4):
            assert list(made[first:last]) == found[first:last]
    with pytest.raises(IndexError):
        made[len(found)]


@pytest.mark.parametrize("compiled", [True, False])
def test_a_folder_is_looked_at(compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(kernels, "library", lambda: None)
    one, two = write(tmp_path / "one", b"1"), write(tmp_path / "two", b"22")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        found = scan(fd, [b"one", b"two"])
        assert list(found) == [status_of(one.stat()), status_of(two.stat())]
        assert found.plain
        assert found[1:].plain
        assert scan(fd, [b"one", b"gone"])[1].error
        assert not scan(fd, [b"one", b"gone"]).plain
        (tmp_path / "link").symlink_to("one")
        assert not scan(fd, [b"link", b"one"]).plain
        os.link(one, tmp_path / "same")
        assert not scan(fd, [b"one"]).plain
        assert scan(fd, [b"two"]).plain
    finally:
        os.close(fd)
