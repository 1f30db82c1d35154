"""Ctrl-C, SIGTERM and kills, in the middle of things."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.door import Cli, finish, patched, until
from torpor.testing.compare import compare_trees

MIB = 1 << 20
# A store that takes one pack, and no other before the first signal.
SLOW = """
import threading
from torpor.cli import stop
from torpor.storage.transport_file import FileTransport
put, first, nap = FileTransport.put, threading.Lock(), threading.Event()
def slow(self, *arguments):
    if not first.acquire(blocking=False):
        while not stop.seen():
            nap.wait(0.01)
    return put(self, *arguments)
FileTransport.put = slow
"""
# A store that takes one pack, and no other.
STUCK = SLOW.replace("while not stop.seen()", "while True")
# A process that is gone at its nth write to the store.
KILLED = """
import os, signal
from torpor.storage.local import LocalStore
put, left = LocalStore.put, [{}]
def kill(self, *arguments, **keywords):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return put(self, *arguments, **keywords)
LocalStore.put = kill
"""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A workspace of three packs."""
    root = tmp_path / "large"
    root.mkdir()
    (root / "random.bin").write_bytes(os.urandom(80 * MIB))
    return root


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_snapshot_goes_on(cli: Cli, large: Path, tmp_path: Path, signum: signal.Signals) -> None:
    process = cli.start("snapshot", large, "--json", command=patched(SLOW))
    until(lambda: bool(cli.packs()), "the first pack")
    process.send_signal(signum)
    done = finish(process)
    assert done.code == 130, done.err
    assert done.json["error"] == "Interrupted"
    assert "packs are in the store and are not sent again" in done.json["safe"]
    assert "The snapshot was interrupted." in done.err
    assert cli.json("snapshots")["snapshots"] == []
    kept = sum(path.stat().st_size for path in cli.packs())
    assert kept > 30 * MIB

    again = cli.ok("snapshot", large)
    assert "there already" in again.out
    taken = cli.json("snapshots")["snapshots"][0]
    assert taken["new_bytes"] < 84 * MIB - kept
    cli.json("restore", "latest", tmp_path / "back")
    assert compare_trees(large, tmp_path / "back") == []


def test_a_second_signal_ends_at_once(cli: Cli, large: Path) -> None:
    process = cli.start("snapshot", large, command=patched(STUCK))
    until(lambda: bool(cli.packs()), "the first pack")
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)  # it waits for a store that never answers
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 130
    assert cli.json("snapshot", large)["files"] == 1


def test_an_interrupted_restore_goes_on(cli: Cli, large: Path, tmp_path: Path) -> None:
    cli.json("snapshot", large)
    slow = SLOW.replace("FileTransport.put", "FileTransport.get_into")
    process = cli.start("restore", "latest", tmp_path / "back", "--json", command=patched(slow))
    until((tmp_path / "back" / ".torpor-restore").exists, "the mark of a restore")
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert (done.code, done.json["what"]) == (130, "The restore was interrupted."), done.err
    cli.json("restore", "latest", tmp_path / "back")
    assert compare_trees(large, tmp_path / "back") == []


def test_a_signal_anywhere_else(cli: Cli, workspace: Path) -> None:
    """Before the engine has begun: told as an error, not as a traceback."""
    code = "import os, signal\nimport torpor.settings\ntorpor.settings.load = lambda *a: os.kill(os.getpid(), signal.SIGTERM)"
    error = cli.fails(130, "snapshot", workspace, command=patched(code))
    assert error["what"] == "The command was stopped by SIGTERM."


@pytest.mark.parametrize("write", range(1, 6))
def test_a_kill_while_the_repository_is_made(cli: Cli, workspace: Path, tmp_path: Path, write: int) -> None:
    killed = cli.run("snapshot", workspace, "--json", command=patched(KILLED.format(write)))
    assert killed.code in (-signal.SIGKILL, 0)
    taken = cli.json("snapshot", workspace)
    assert taken["files"] == 3
    cli.json("restore", taken["snapshot_id"], tmp_path / "back")
    assert compare_trees(workspace, tmp_path / "back") == []
    assert cli.json("verify", "--all", "--full")["hurt"] == []
    recovery = cli.json("keys", "show")["recovery_key"]
    other = Cli(tmp_path / "other", cli.storage)
    other.json("keys", "import", typed=recovery + "\n")


@pytest.mark.parametrize("there", [False, True])
def test_two_snapshots_of_one_workspace_at_once(cli: Cli, workspace: Path, tmp_path: Path, there: bool) -> None:
    if there:
        cli.json("snapshot", workspace)
    both = [cli.start("snapshot", workspace, "--json") for _ in range(2)]
    done = [finish(process) for process in both]
    assert [one.code for one in done] == [0, 0], [one.err for one in done]
    ids = {json.loads(one.out)["snapshot_id"] for one in done}
    assert len(ids) == 2
    assert sum(one.json["created_repository"] for one in done) == (0 if there else 1)
    assert cli.json("verify", "--all", "--full")["hurt"] == []
    for number, snapshot in enumerate(sorted(ids)):
        cli.json("restore", snapshot, tmp_path / f"back {number}")
        assert compare_trees(workspace, tmp_path / f"back {number}") == []
