"""`torpor hibernate --dry-run`: what would go, and what would keep it from going; nothing is made or destroyed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.cli.door import Cli
from torpor.cli import amounts, hibernate, preview
from torpor.cli.session import Session
from torpor.control.far import Far
from torpor.control.places import Place
from torpor.machines.base import Access, Ground
from torpor.machines.table import open_machine
from torpor.remote.host import InProcess
from torpor.settings import Settings
from torpor.ssh.base import Target


def machine(cli: Cli) -> Path:
    made = open_machine("local:box", Ground(cli.home / "machines"))
    made.create()
    workspace = Path(cli.home / "machines" / "box" / "workspace")
    (workspace / "a.txt").write_text("a\n")
    return workspace


def test_what_would_go_and_what_is_in_the_way(cli: Cli) -> None:
    workspace = machine(cli)
    with open(workspace / "open.log", "w", encoding="ascii") as log:
        log.write("still writing\n")
        log.flush()
        said = cli.json("hibernate", "local:box", "--dry-run")
    assert (said["dry_run"], said["would_destroy"], said["files"], said["read_files"]) == (True, "local:box", 2, 2)
    assert any("recovery key" in line for line in said["in_the_way"])
    assert any("open for writing" in line and "open.log" in line for line in said["in_the_way"])
    state = json.loads((cli.home / "machines" / "box" / "machine.json").read_text())["state"]
    assert state == "running"
    assert sorted(path.name for path in workspace.iterdir()) == ["a.txt", "open.log"]


def test_confirmed_and_closed_nothing_is_in_the_way(cli: Cli) -> None:
    machine(cli)
    cli.extra["TORPOR_RECOVERY_CONFIRMED"] = "1"
    (line,) = cli.json("hibernate", "local:box", "--dry-run")["in_the_way"]
    assert "no repository" in line
    cli.ok("snapshot", "local:box")
    assert cli.json("hibernate", "local:box", "--dry-run")["in_the_way"] == []
    (path,) = (cli.storage / "keys").iterdir()
    right = path.read_bytes()
    path.write_text("{}")
    (line,) = cli.json("hibernate", "local:box", "--dry-run")["in_the_way"]
    assert "would not bring the keys back" in line
    path.write_bytes(right)
    assert "would_destroy" not in cli.json("hibernate", "local:box", "--dry-run", "--keep")


def test_a_repository_inside_is_in_the_way(cli: Cli) -> None:
    cli.extra |= {"TORPOR_RECOVERY_CONFIRMED": "1", "TORPOR_STORAGE": str(machine(cli) / "store")}
    cli.ok("snapshot", "local:box")
    (line,) = cli.json("hibernate", "local:box", "--dry-run")["in_the_way"]
    assert "holds a repository" in line


def test_files_of_this_computer_are_not_those_of_another(tmp_path: Path) -> None:
    """A folder of the same name is open here: that keeps no machine elsewhere."""
    root = str(tmp_path).encode()
    target = Target(host="127.0.0.1", port=1, user="me", host_key="ssh-ed25519 AAAA")
    access = Access(roots=[root], state=b"state", ssh=target)
    far = Far(Settings(home=tmp_path / "home", storage="memory:"), access, "ssh://me@127.0.0.1:1", "")
    here = Place(InProcess(), [root], b"state")
    there = Place(far, [root], b"state", "ssh://me@127.0.0.1:1", None, far)
    holder = subprocess.Popen(["sh", "-c", "exec cat >open.log"], cwd=tmp_path, stdin=subprocess.PIPE)
    try:
        while not (tmp_path / "open.log").exists():
            os.sched_yield()
        assert any("open.log" in line for line in preview._in_the_way(here, {}, confirmed=True))
        assert preview._in_the_way(there, {}, confirmed=True) == []
    finally:
        assert holder.stdin is not None
        holder.stdin.close()
        holder.wait(timeout=20)


def test_a_host_that_is_not_torpors_to_end(cli: Cli) -> None:
    """What would be done to the machine, and what is said once it was done."""
    session = Session({"storage": None, "home": str(cli.home), "json": False, "verbose": False, "quiet": False, "no_progress": True})
    assert "is confirmed" in hibernate._end(session, "local:box", True)
    assert "workspace was deleted; the host runs on" in hibernate._end(session, "ssh://me@host", True)
    assert "still runs" in hibernate._end(session, "ssh://me@host", False)
    assert amounts.stages({"scan": {"seconds": 0.5}, "upload": {"seconds": 12.0}}) == "scan 0.50 s, upload 12.0 s"
