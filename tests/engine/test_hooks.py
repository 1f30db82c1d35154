"""Hooks on a real shell."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from torpor.control.hooks import OUTPUT_MAX, Hook, after_restore, before_snapshot, lines
from torpor.errors import HookFailed, MachineError
from torpor.ssh.base import Channel, Dropped, Ran
from torpor.ssh.local import LocalShell


class Noting(LocalShell):
    """Keeps what was run."""

    def __init__(self, temporary: Path) -> None:
        temporary.mkdir()
        super().__init__({"PATH": os.environ["PATH"], "TMPDIR": str(temporary)}, "/")
        self.commands: list[str] = []

    def open(self, command: str):  # type: ignore[no-untyped-def]
        self.commands.append(command)
        return super().open(command)


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    return tmp_path / "temporary"


@pytest.fixture
def shell(temporary: Path) -> Iterator[Noting]:
    yield Noting(temporary)
    assert list(temporary.iterdir()) == []  # nothing is left on the host


@pytest.fixture
def folder(tmp_path: Path) -> bytes:
    path = tmp_path / "a 'work' $(space) é"
    path.mkdir()
    return os.fsencode(path)


def test_a_hook_runs_in_the_workspace_and_what_it_says_is_noted(shell: Noting, folder: bytes) -> None:
    notes: list[str] = []
    script = "pwd; echo \"it's\" >done; echo; printf 'to stderr\\033[2J\\n' >&2; read x || echo no input"
    before_snapshot(shell, Hook(script=script), folder, notes.append)
    where = os.fsdecode(folder)
    assert notes == [f"pre-snapshot hook: {text}" for text in (where, "to stderr\\x1b[2J", "no input")]
    assert Path(where, "done").read_text() == "it's\n"
    assert "done" not in shell.commands[0]  # no command line shows the script


def test_the_last_of_much_is_noted(shell: Noting, folder: bytes) -> None:
    notes: list[str] = []
    after_restore(shell, Hook(script="seq 1 100000"), folder, notes.append)
    assert notes[-1] == "post-restore hook: 100000"
    assert OUTPUT_MAX / 2 < sum(len(note) - len("post-restore hook: ") for note in notes) < OUTPUT_MAX


def test_a_failing_hook_says_why_and_what_is_safe(shell: Noting, folder: bytes) -> None:
    with pytest.raises(HookFailed, match="exit status 3: the last word") as caught:
        before_snapshot(shell, Hook(script="echo first; echo the last word; exit 3"), folder, lambda text: None)
    assert "no snapshot was begun" in caught.value.safe
    assert isinstance(caught.value, MachineError)
    assert not caught.value.retryable
    with pytest.raises(HookFailed) as caught:
        after_restore(shell, Hook(script="exit 1"), folder, lambda text: None)
    assert os.fsdecode(folder) in caught.value.safe
    with pytest.raises(HookFailed, match=r"exit status 125: .*gone"):
        after_restore(shell, Hook(script="true"), folder + b"/gone", lambda text: None)
    with pytest.raises(HookFailed, match="exit status 2"):
        after_restore(shell, Hook(script="if"), folder, lambda text: None)


def test_a_hook_that_takes_too_long_is_ended(shell: Noting, folder: bytes) -> None:
    notes: list[str] = []
    with pytest.raises(HookFailed, match=r"longer than 0\.5 seconds"):
        before_snapshot(shell, Hook(script="echo begun; sleep 300", seconds=0.5), folder, notes.append)
    assert notes == ["pre-snapshot hook: begun"]


def test_a_server_that_a_hook_starts_stays(shell: Noting, folder: bytes) -> None:
    """Nothing waits for it, though it has the output still open."""
    notes: list[str] = []
    after_restore(shell, Hook(script="sleep 300 & echo $!", seconds=30), folder, notes.append)
    pid = int(notes[0].rpartition(" ")[2])
    assert b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()
    os.kill(pid, signal.SIGKILL)


def test_a_broken_connection_is_told_as_what_it_is(folder: bytes) -> None:
    class Broken:
        def run(self, command: str, stdin: bytes | IO[bytes] = b"", seconds: float = 60.0) -> Ran:
            raise Dropped("The connection broke.")

        def open(self, command: str) -> Channel:
            raise Dropped("The connection broke.")

        def close(self) -> None:
            """There is none."""

    with pytest.raises(HookFailed, match="not seen: The connection broke") as caught:
        before_snapshot(Broken(), Hook(script="true"), folder, lambda text: None)
    assert "still runs" in caught.value.remedy


def test_lines() -> None:
    assert lines(b"a\r\n\n  \nb \xff\x00\n" + b"c") == ["a", "b \\xff\\x00", "c"]
    assert len(lines(b"x\n" * 100_000)) == OUTPUT_MAX // 2
