"""The command line and a host over SSH: the store is a folder of this computer, which the host reaches through the connection alone."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from tests.cli.door import Cli
from tests.emulators.sshd import Sshd
from torpor.ssh import trust
from torpor.testing.compare import compare_trees


def test_there_and_back(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    with Sshd(tmp_path / "host") as host:
        address = f"ssh://{getpass.getuser()}@127.0.0.1:{host.port}{os.fsdecode(host.root)}/mine"
        cli.extra |= {"TORPOR_SSH_KEY": host.target.identity, "TORPOR_KNOWN_HOSTS": ""}
        cli.ok("snapshot", workspace)
        assert cli.fails(19, "restore", "latest", address)["error"] == "HostKeyUnknown"
        trust.pin(cli.home / "machines", "127.0.0.1", host.port, host.host_key)

        woken = cli.json("restore", "latest", address)
        assert woken["traffic"]["requests"] > 0  # not a path that both happen to have
        assert compare_trees(workspace, host.workspace / "mine") == []

        (host.workspace / "mine" / "more").write_bytes(os.urandom(100_000))
        taken = cli.json("snapshot", address, "--limit-rate", "50M")
        assert (taken["read_files"], taken["traffic"]["sent"] > 100_000) == (1, True)

        planned = cli.json("hibernate", address, "--dry-run")
        assert planned["would_destroy"] is None
        assert planned["read_files"] <= 1  # the one that was written just before it was saved may be looked at once more
        assert cli.json("hibernate", address, "--dry-run", "--wipe")["would_destroy"] == address
