"""`torpor hibernate --dry-run`: what would go, and what would keep it from going; nothing is made or destroyed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.door import Cli
from torpor.machines.base import Ground
from torpor.machines.table import open_machine


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
    assert cli.json("hibernate", "local:box", "--dry-run")["in_the_way"] == []
    assert "would_destroy" not in cli.json("hibernate", "local:box", "--dry-run", "--keep")
