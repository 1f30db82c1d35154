"""Standard streams that are closed, full or broken, and other things around a process that are not as usual."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.door import Cli, patched


@pytest.fixture
def work(cli: Cli, tmp_path: Path) -> Path:
    """A workspace that torpor has something to say of: a fifo is not saved."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "file").write_text("content")
    os.mkfifo(tmp_path / "work" / "pipe")
    return tmp_path / "work"


def shell(cli: Cli, script: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a script of sh in which `torpor` is this one."""
    script = f'torpor() {{ {sys.executable} -m torpor.cli "$@"; }}\n{script}'
    return subprocess.run(
        ["sh", "-c", script, "sh", *map(str, words)], env=cli.environment, capture_output=True, text=True, check=False, timeout=60,
        cwd=cli.home.parent,
    )  # fmt: skip


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full", "2>/dev/full >/dev/null"])
def test_what_is_told_is_not_what_is_done(cli: Cli, work: Path, closed: str) -> None:
    saved = shell(cli, f'torpor snapshot "$1" {closed}', work)
    assert saved.returncode == 0, saved.stderr
    back = shell(cli, f'torpor restore latest "$1/back" {closed}', work.parent)
    assert back.returncode == 0, back.stderr
    assert (work.parent / "back" / "file").read_text() == "content"
    assert shell(cli, f"torpor verify latest {closed}").returncode == 0


def test_a_result_that_can_not_be_told(cli: Cli, work: Path) -> None:
    saved = shell(cli, 'torpor snapshot "$1" --json >/dev/full', work)
    assert (saved.returncode, "The command itself is done." in saved.stderr) == (20, True)
    assert "Unforeseen" not in saved.stderr
    assert len(cli.json("snapshots")["snapshots"]) == 1


def test_nobody_types(cli: Cli, work: Path) -> None:
    cli.ok("snapshot", work)
    for words in ("keys confirm", "rm latest"):
        done = shell(cli, f"torpor {words} --json <&-")
        assert json.loads(done.stdout)["exit_code"] == done.returncode == 2, done.stderr


def test_the_current_folder_is_gone(cli: Cli, work: Path) -> None:
    cli.ok("snapshot", work)
    for words in ("snapshot .", "restore latest back"):
        done = shell(cli, f'mkdir "$1/gone"; cd "$1/gone"; rmdir "$1/gone"; torpor {words} --json', work.parent)
        assert json.loads(done.stdout)["what"] == "The current folder is gone.", done.stderr


def test_too_little_memory(cli: Cli, work: Path) -> None:
    fault = "from torpor.hibernate import run\ndef full(*given): raise MemoryError\nrun._Engine.snapshot = full"
    error = cli.fails(1, "snapshot", work, command=patched(fault))
    assert "--memory" in error["remedy"]
    cli.ok("snapshot", work)


@pytest.mark.parametrize("words", ["--name", "--label k=", "--exclude"])
def test_words_that_are_no_utf8(cli: Cli, work: Path, words: str) -> None:
    done = shell(cli, f'torpor snapshot "$1" --json {words}{"" if words.endswith("=") else " "}"$(printf \'\\377\')"', work)
    assert json.loads(done.stdout)["exit_code"] == done.returncode == 2, done.stderr
