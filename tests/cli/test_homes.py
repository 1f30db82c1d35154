"""A TORPOR_HOME that is damaged, that may only be read, or that is none: what can go on does, and the rest says what to do."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.door import POWERLESS, Cli

USAGE, DAMAGED = 2, 12


@pytest.fixture
def work(cli: Cli, tmp_path: Path) -> Path:
    """A workspace with a snapshot."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "file").write_text("content")
    cli.ok("snapshot", tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def unwritable(cli: Cli, work: Path) -> Iterator[None]:
    """As on a read-only disk."""
    folders = [Path(folder) for folder, _, _ in os.walk(cli.home)]
    files = [Path(folder) / name for folder, _, names in os.walk(cli.home) for name in names]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in folders + files}
    for path, mode in modes.items():
        path.chmod(mode & 0o555)
    yield
    for path, mode in modes.items():
        path.chmod(mode)


@pytest.mark.parametrize("content", ["", "[]", '{"cut', "\0\xff"], ids=["empty", "a list", "cut off", "noise"])
@pytest.mark.parametrize("file", ["repositories.json", "pins/*.json", "keys/*.json"])
def test_a_file_of_it_is_damaged(cli: Cli, work: Path, file: str, content: str) -> None:
    (path,) = cli.home.glob(file)
    key = cli.json("keys", "show")["recovery_key"]
    path.write_text(content, encoding="latin-1")
    error = cli.fails(DAMAGED, "snapshot", work)
    assert str(path) in error["what"]
    assert "Move it away" in error["remedy"] or "Move that file away" in error["remedy"]
    assert cli.fails(DAMAGED, "restore", "latest", work.parent / "back")["what"] == error["what"]
    path.unlink()
    if "keys" in file:
        assert "torpor keys import" in error["remedy"]
        cli.ok("keys", "import", typed=f"{key}\n")
    cli.ok("restore", "latest", work.parent / "back")
    cli.ok("snapshot", work)


@pytest.mark.usefixtures("unwritable")
@pytest.mark.parametrize("words", [["snapshots"], ["verify", "latest", "--full"], ["show", "latest"]], ids=lambda words: words[0])
def test_a_home_that_may_only_be_read(cli: Cli, words: list[str]) -> None:
    done = cli.run(*words, command=POWERLESS)
    assert done.code == 0, done.err


@pytest.mark.parametrize("place", ["/dev/null", "/proc/nothing", "file/below"])
def test_a_home_that_can_be_none(cli: Cli, work: Path, place: str) -> None:
    home = cli.extra["TORPOR_HOME"] = str(work / place)
    assert home in cli.fails(USAGE, "snapshot", work)["what"]
    assert (work / "file").read_text() == "content"
