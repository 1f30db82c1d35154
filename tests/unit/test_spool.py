"""Files without a name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torpor.workspace.spool import spool


def test_it_has_no_name_and_is_written_and_read(tmp_path: Path) -> None:
    with spool(os.fsencode(tmp_path)) as file:
        file.write(b"hello")
        file.flush()
        assert os.pread(file.fileno(), 10, 0) == b"hello"
        assert list(tmp_path.iterdir()) == []
        assert os.fstat(file.fileno()).st_dev == tmp_path.stat().st_dev


def test_where_the_file_system_knows_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuses(path: str, flags: int, *more: int, **names: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return real(path, flags, *more, **names)

    monkeypatch.setattr(os, "open", refuses)
    with spool(str(tmp_path)) as file:
        file.write(b"hello")
        file.seek(0)
        assert file.read() == b"hello"
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        spool(str(tmp_path / "never"))


def test_tmpdir_is_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with spool() as file:
        assert os.fstat(file.fileno()).st_dev == tmp_path.stat().st_dev
