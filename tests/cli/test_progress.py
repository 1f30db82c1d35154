"""What is shown while a job runs: bars on a terminal, lines elsewhere, nothing with -q."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.door import COMMAND, Cli, patched

# Each object takes its time, so that there is something to show.
SLOW = """
import threading
from torpor.storage.transport_file import FileTransport
put, nap = FileTransport.put, threading.Event()
def slow(self, *arguments):
    nap.wait({})
    return put(self, *arguments)
FileTransport.put = slow
"""
SHOW_CURSOR = "\x1b[?25h"
HIDE_CURSOR = "\x1b[?25l"


def on_a_terminal(cli: Cli, *words: str | Path, command: tuple[str, ...] = COMMAND) -> tuple[int, str, str]:
    """Exit code, standard output, and what a terminal got as standard error."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*command, *map(str, words)], env={**cli.environment, "TERM": "xterm-256color", "COLUMNS": "120"}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # the other end was closed
            break
        shown += data
        if not data:
            break
    out = process.communicate(timeout=60)[0]
    os.close(master)
    return process.returncode, out.decode(), shown.decode().replace("\r\n", "\n")


def test_bars_and_a_clean_terminal(cli: Cli, workspace: Path) -> None:
    code, out, shown = on_a_terminal(cli, "snapshot", workspace, command=patched(SLOW.format(0.8)))
    assert code == 0, shown
    assert "3 files" in out
    for stage in ("scan", "read", "compress", "upload"):
        assert stage in shown
    assert "━" in shown
    assert "5.24 MB" in shown
    assert shown.rindex(SHOW_CURSOR) > shown.rindex(HIDE_CURSOR)


def test_a_short_job_shows_no_bars(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    cli.json("snapshot", workspace)
    code, out, shown = on_a_terminal(cli, "restore", "latest", tmp_path / "back")
    assert code == 0
    assert HIDE_CURSOR not in shown
    assert "usable after" in shown
    assert "restored" in out


def test_the_recovery_key_is_shown_once_and_to_a_terminal_alone(cli: Cli, workspace: Path) -> None:
    shown = on_a_terminal(cli, "snapshot", workspace)[2]
    assert cli.json("keys", "show")["recovery_key"] in shown
    assert "Write down the recovery key" in shown
    assert "torpor1-" not in on_a_terminal(cli, "snapshot", workspace)[2]


def test_lines_where_there_is_no_terminal(cli: Cli, workspace: Path) -> None:
    slow = patched(
        SLOW.format(0.2).replace("nap.wait", "progress(); nap.wait")
        + """
import torpor.cli.progress as shown
shown.FIRST_LINE = shown.EVERY = 0.01
from torpor.events import Progress
begin, known = Progress.__init__, []
def remember(self, *arguments):
    begin(self, *arguments)
    known.append(self)
Progress.__init__ = remember
def progress():
    known[-1].tick()
"""
    )
    lines = cli.run("snapshot", workspace, command=slow).err.splitlines()
    assert any(line.startswith(("read ", "compress ", "upload ")) and "5.24 MB" in line for line in lines), lines
    assert "" not in lines
    for flags in (["-q"], ["--no-progress"]):
        quiet = cli.run("snapshot", workspace, "--rescan", *flags, command=slow)
        assert quiet.code == 0
        assert quiet.err == ""


def test_details(cli: Cli, workspace: Path) -> None:
    err = cli.ok("snapshot", workspace, "-v").err
    for line in ("scan started", "scan ended: 8 files", "upload ended", "over all threads"):
        assert line in err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_the_terminal_clean(cli: Cli, workspace: Path, signum: signal.Signals) -> None:
    """Once the bars are there, the process interrupts itself."""
    kill = (
        SLOW.format(1.0)
        + f"""
import os, signal
import torpor.cli.progress
from torpor.cli import bars
show = bars.Bars.show
def once(self, *arguments):
    show(self, *arguments)
    bars.Bars.show = show
    os.kill(os.getpid(), signal.{signum.name})
bars.Bars.show = once
"""
    )
    code, _, shown = on_a_terminal(cli, "snapshot", workspace, command=patched(kill))
    assert code == 130, shown
    assert "The snapshot was interrupted." in shown
    assert shown.rindex(SHOW_CURSOR) > shown.rindex(HIDE_CURSOR)
