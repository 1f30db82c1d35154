"""What a repository costs, by the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.door import Cli
from torpor.plan import costs
from torpor.plan.prices import PRICES


def test_a_folder_has_no_price_and_the_rest_is_compared(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    first = cli.json("snapshot", workspace, "--name", "one")
    (workspace / "more").write_bytes(os.urandom(1 << 20))
    second = cli.json("snapshot", workspace, "--name", "two")
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_bytes(os.urandom(1 << 20))
    third = cli.json("snapshot", other, "--name", "three")
    found = cli.json("costs")
    stored = sum(path.stat().st_size for path in cli.storage.rglob("*") if path.is_file())
    assert (found["provider"], found["per_month"], found["uncertain"]) == ("local", None, [])
    assert (found["stored_bytes"], found["other_bytes"], found["wakes"]) == (stored, 0, 1)
    big, small = found["workspaces"]
    assert (big["lineage"], big["name"], big["snapshots"], big["latest"]) == (first["lineage"], "two", 2, second["snapshot_id"])
    assert (small["lineage"], small["name"], small["snapshots"]) == (third["lineage"], "three", 1)
    assert big["stored_bytes"] == first["new_bytes"] + second["new_bytes"]
    assert big["wake_bytes"] == second["stored_bytes"]
    totals = [row["total"] for row in found["providers"]]
    assert totals == sorted(totals)
    assert {row["provider"] for row in found["providers"]} == set(PRICES)
    r2 = next(row for row in found["providers"] if row["provider"] == "r2")
    assert r2["storage"] == pytest.approx(costs.asleep(PRICES["r2"], stored))
    more = cli.json("costs", "--wakes", "100")
    assert [row["reading"] for row in more["providers"] if row["provider"] == "r2"] == [pytest.approx(100 * r2["reading"])]
    cli.ok("rm", first["snapshot_id"], "--yes")
    assert cli.json("costs")["other_bytes"] == first["new_bytes"]


def test_words(cli: Cli, workspace: Path) -> None:
    cli.json("snapshot", workspace, "--name", "mine")
    text = cli.ok("costs").out
    assert "of this store no prices are known" in text
    assert "mine" in text
    for price in PRICES.values():
        assert price.title in text
    assert "[?]" in text
    assert "at least 90 days" in text


def test_no_repository(cli: Cli) -> None:
    assert cli.fails(10, "costs")["error"] == "NotFound"
