"""verify, rm, retain, prune."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.door import Cli


@pytest.fixture
def two(cli: Cli, workspace: Path) -> list[str]:
    """Two snapshots; only the first has the weights."""
    first = cli.json("snapshot", workspace)["snapshot_id"]
    (workspace / "latest").unlink()
    (workspace / "weights.bin").unlink()
    return [first, cli.json("snapshot", workspace)["snapshot_id"]]


@pytest.mark.parametrize(("flag", "depth"), [([], "sample"), (["--full"], "full"), (["--presence"], "presence")])
def test_verify(cli: Cli, two: list[str], flag: list[str], depth: str) -> None:
    one = cli.json("verify", two[0], *flag)
    assert (one["depth"], [row["ok"] for row in one["snapshots"]]) == (depth, [True])
    assert (one["snapshots"][0]["read_packs"] > 0) == (depth != "presence")
    everything = cli.json("verify", "--all", *flag)
    assert [row["snapshot_id"] for row in everything["snapshots"]] == two
    shown = cli.json("show", two[0])["receipts"]
    assert [receipt["depth"] for receipt in shown] == [depth, depth]
    assert f"{two[0]} ok: 3 files" in cli.ok("verify", two[0], *flag).out


def test_dry_runs_change_nothing(cli: Cli, two: list[str]) -> None:
    before = cli.objects()
    assert cli.json("rm", *two, "--dry-run")["would_remove"] == two
    assert cli.json("prune", "--dry-run")["dry_run"] is True
    cli.ok("prune", "--dry-run", "--grace", "0")
    assert cli.objects() == before
    cli.ok("rm", two[0], "--yes")
    removed = cli.objects()
    plan = cli.json("prune", "--dry-run", "--grace", "0")
    assert (plan["marked"] > 0, plan["marked_bytes"] > 5 << 20) == (True, True)
    assert cli.objects() == removed


def test_remove_and_prune(cli: Cli, two: list[str], tmp_path: Path) -> None:
    assert "Nobody is here to be asked" in cli.fails(2, "rm", two[0])["what"]
    assert cli.json("rm", two[0], two[0][:-2], "--yes")["removed"] == [two[0]]
    assert [row["snapshot_id"] for row in cli.json("snapshots")["snapshots"]] == [two[1]]
    marked = cli.json("prune")
    assert (marked["deleted"], marked["marked"] > 0) == (0, True)
    assert cli.json("prune", "--grace", "1h")["waiting"] == marked["marked"]
    assert cli.json("prune", "--grace", "24h")["deleted"] == 0
    gone = cli.json("prune", "--grace", "0")
    assert (gone["deleted"], gone["deleted_bytes"] > 5 << 20) == (marked["marked"], True)
    assert cli.json("verify", "--all", "--full")["hurt"] == []
    cli.json("restore", two[1], tmp_path / "back")


def test_a_prune_says_why(cli: Cli, two: list[str]) -> None:
    cli.ok("rm", two[0], "--yes")
    plan = cli.json("prune", "--dry-run")
    (why,) = plan["why"]
    assert (why["snapshot"], why["what"], why["objects"], why["bytes"]) == (two[0], "marked", plan["marked"], plan["marked_bytes"])
    assert why["why"] == "their snapshot was removed, and no other names them"
    assert f"  {two[0]}: {plan['marked']} objects, 5.24 MB; their snapshot was removed" in cli.ok("prune", "--dry-run").out
    assert two[0] not in cli.ok("prune").out
    assert "marked earlier" in cli.ok("prune").out


def test_a_computer_without_keys_prunes(cli: Cli, two: list[str], tmp_path: Path) -> None:
    stranger = Cli(tmp_path / "stranger", cli.storage)
    cli.ok("rm", two[0], "--yes")
    gone = stranger.json("prune", "--grace", "0")
    assert (gone["deleted"], gone["deleted_bytes"] > 5 << 20) == (gone["marked"], True)
    assert cli.json("verify", "--all", "--full")["hurt"] == []
    assert stranger.fails(11, "retain", "--days", "0")["remedy"]


def test_retain(cli: Cli, two: list[str], workspace: Path) -> None:
    before = cli.objects()
    young = cli.json("retain")
    assert (young["removed"], [one["keep"] for one in young["decisions"]]) == ([], [True, True])
    plan = cli.json("retain", "--days", "0", "--dry-run")
    assert (plan["would_remove"], plan["removed"], plan["freed_bytes"] > 5 << 20) == (two[:1], [], True)
    assert plan["decisions"][0] == {"snapshot_id": two[0], "keep": False, "reason": "older than 0 days"}
    assert cli.objects() == before
    assert cli.json("retain", "--days", "0", "--last", "2")["removed"] == []
    assert cli.json("retain", "--days", "0", "--machine", "local:other")["removed"] == []
    done = cli.ok("retain", "--days", "0")
    assert f"{two[0]}  " in done.out
    assert "older than 0 days" in done.out
    assert "1 snapshot of 2 removed; only they need 5.24 MB" in done.out
    assert "5.24 MB marked" in done.err
    assert [row["snapshot_id"] for row in cli.json("snapshots")["snapshots"]] == two[1:]
    assert cli.json("prune")["waiting"] > 0


def test_a_lost_manifest_is_told_and_recorded(cli: Cli, two: list[str]) -> None:
    cli.ok("verify", two[0])
    (cli.storage / "snapshots" / f"{two[0]}.json").unlink()
    error = cli.fails(21, "prune")
    assert "has receipts and no manifest" in error["what"]
    assert "--damaged" in error["remedy"]
    assert cli.run("rm", two[0], "--yes").code == 10
    cli.ok("rm", two[0], "--yes", "--damaged")
    assert cli.json("prune")["marked"] > 0


def test_the_hurt_are_named(cli: Cli, two: list[str], workspace: Path) -> None:
    """A pack that vanished: told by verify, and from then on by snapshots and retain; the next snapshot is whole."""
    largest = max(cli.packs(), key=lambda path: path.stat().st_size)
    largest.unlink()
    assert cli.json("snapshots")["hurt"] == []
    assert cli.fails(12, "verify", two[0], "--presence")["hurt"] == two[:1]
    shown = cli.ok("snapshots", "--json")
    assert (shown.json["hurt"], f"warning: {two[0]} needs objects" in shown.err) == (two[:1], True)
    plan = cli.ok("retain", "--json", "--dry-run")
    assert (plan.json["hurt"], f"warning: {two[0]} needs objects" in plan.err) == (two[:1], True)
    healed = cli.json("snapshot", workspace)["snapshot_id"]
    assert cli.json("verify", healed, "--full")["hurt"] == []


def test_removal_is_no_rollback(cli: Cli, two: list[str], workspace: Path) -> None:
    cli.ok("rm", "latest", "--yes")
    assert [row["snapshot_id"] for row in cli.json("snapshots")["snapshots"]] == two[:1]
    cli.json("snapshot", workspace)
