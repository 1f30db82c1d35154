"""Hooks over SSH: what a connection adds to tests/engine/test_hooks.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.emulators.sshd import Sshd
from torpor.control.hooks import Hook, after_restore, before_snapshot
from torpor.errors import HookFailed
from torpor.ssh.connect import SshShell


@pytest.fixture
def shell(host: Sshd) -> Iterator[SshShell]:
    made = SshShell(host.target)
    yield made
    made.close()


def test_hooks_run_on_the_machine(host: Sshd, shell: SshShell) -> None:
    notes: list[str] = []
    before_snapshot(shell, Hook(script="pwd; echo flushed >flushed"), host.root, notes.append)
    assert notes == [f"pre-snapshot hook: {os.fsdecode(host.root)}"]
    assert (host.workspace / "flushed").read_text() == "flushed\n"


def test_a_server_outlives_the_connection(host: Sshd, shell: SshShell) -> None:
    after_restore(shell, Hook(script="sleep 300 & echo started", seconds=30), host.root, lambda text: None)
    shell.close()
    (server,) = [one for one in host.processes() if one.name() == "sleep"]
    server.kill()


def test_a_hook_that_takes_too_long_is_ended_there(host: Sshd, shell: SshShell) -> None:
    with pytest.raises(HookFailed, match="took longer than 1 seconds"):
        before_snapshot(shell, Hook(script="sleep 300", seconds=1), host.root, lambda text: None)
    assert [one for one in host.processes() if one.name() == "sleep"] == []


def test_a_connection_that_breaks_leaves_the_end_open(host: Sshd, shell: SshShell) -> None:
    """The hook runs on, and nobody claims to know how it ended."""
    os.mkfifo(host.workspace / "begun")
    with ThreadPoolExecutor(1) as pool:
        ran = pool.submit(before_snapshot, shell, Hook(script="echo >begun; exec sleep 300"), host.root, lambda text: None)
        (host.workspace / "begun").read_text()
        host.drop()
        with pytest.raises(HookFailed, match="end was not seen") as caught:
            ran.result(60)
    assert "still runs" in caught.value.remedy
    (hook,) = [one for one in host.processes() if one.name() == "sleep"]
    hook.kill()
