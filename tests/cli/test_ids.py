"""How snapshots are named on a command line."""

from __future__ import annotations

from pathlib import Path

from tests.cli.door import Cli


def test_latest_and_beginnings(cli: Cli, workspace: Path) -> None:
    first, second = (cli.json("snapshot", workspace)["snapshot_id"] for _ in range(2))
    assert cli.json("show", "latest")["snapshot_id"] == second
    assert cli.json("show", first)["snapshot_id"] == first
    assert cli.json("show", first[:-1])["snapshot_id"] == first
    assert cli.json("show", second[:-3])["snapshot_id"] == second
    common = next(first[:n] for n in range(len(first), 0, -1) if second.startswith(first[:n]))
    error = cli.fails(2, "show", common)
    assert first in error["what"]
    assert second in error["what"]
    assert "Give more of the id." in error["remedy"]


def test_no_such_snapshot(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    assert "There is no repository" in cli.fails(10, "restore", "latest", tmp_path / "x")["what"]
    assert not cli.storage.exists()
    taken = cli.json("snapshot", workspace)["snapshot_id"]
    assert "There is no snapshot" in cli.fails(10, "show", "20200101")["what"]
    assert "is empty" in cli.fails(2, "diff", "latest", "")["what"]
    cli.ok("rm", taken, "--yes")
    assert "There are no snapshots" in cli.fails(10, "show", "latest")["what"]


def test_the_list(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    assert cli.ok("snapshots").code == 0 if cli.storage.exists() else cli.fails(10, "snapshots")
    one = cli.json("snapshot", workspace, "--name", "one")
    other = tmp_path / "other"
    other.mkdir()
    two = cli.json("snapshot", other, "--name", "two")
    found = cli.json("snapshots")["snapshots"]
    assert [(row["snapshot_id"], row["name"]) for row in found] == [(one["snapshot_id"], "one"), (two["snapshot_id"], "two")]
    assert found[0]["lineage"] != found[1]["lineage"]
    assert [row["name"] for row in cli.json("snapshots", "--lineage", two["lineage"][:12])["snapshots"]] == ["two"]
    assert cli.json("snapshots", "--machine", "local:none")["snapshots"] == []
    table = cli.ok("snapshots").out.splitlines()
    assert table[0].split() == ["SNAPSHOT", "CREATED", "AGE", "NAME", "MACHINE", "FILES", "RAW", "STORED", "NEW", "RATIO"]
    assert [line.split()[0] for line in table[1:]] == cli.ok("snapshots", "-q").out.split()
