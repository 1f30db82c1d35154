"""A snapshot and back through Google Cloud Storage, as a user types it: the host holds signed URLs only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.door import Cli
from tests.emulators.gcs import Gcs
from torpor.testing.compare import compare_trees


@pytest.fixture
def gcs(tmp_path: Path) -> Iterator[Gcs]:
    with Gcs(tmp_path) as gcs:
        yield gcs


@pytest.fixture
def bucket(gcs: Gcs, tmp_path: Path) -> Cli:
    """A computer whose repository lies in the bucket."""
    url = f"gs://{gcs.bucket}/machines?endpoint={gcs.url}"
    return Cli(tmp_path / "home", tmp_path / "unused", {"TORPOR_STORAGE": url, "GOOGLE_APPLICATION_CREDENTIALS": str(gcs.credentials_file)})


def test_there_and_back(bucket: Cli, gcs: Gcs, workspace: Path, tmp_path: Path) -> None:
    first = bucket.json("snapshot", workspace)
    assert {seen.method for seen in gcs.requests if seen.operation.startswith("signed")} == {"PUT"}
    assert all(name.startswith("machines/") for name in gcs.objects)
    again = bucket.json("snapshot", workspace)
    assert again["parent"] == first["snapshot_id"]
    assert again["new_bytes"] < first["new_bytes"] / 2
    bucket.ok("restore", "latest", tmp_path / "back")
    assert compare_trees(workspace, tmp_path / "back") == []
    assert bucket.json("verify", "latest", "--full")["hurt"] == []
    assert bucket.json("costs")["provider"] == "gcs"
    bucket.ok("doctor")
    bucket.ok("rm", first["snapshot_id"], "--yes")
    bucket.ok("prune")


def test_no_secret_is_told(bucket: Cli, gcs: Gcs, workspace: Path) -> None:
    done = bucket.run("snapshot", workspace, "--verbose", "--json")
    assert done.code == 0
    account = json.loads(gcs.credentials_file.read_text())
    secrets = [account["private_key"].splitlines()[1], "X-Goog-Signature", *gcs.service.tokens]
    kept = "".join(path.read_text(errors="replace") for path in bucket.home.rglob("*") if path.is_file())
    for secret in secrets:
        assert secret not in done.out + done.err + kept


def test_a_key_that_was_deleted_is_told_with_a_remedy(bucket: Cli, gcs: Gcs, workspace: Path) -> None:
    bucket.ok("snapshot", workspace)
    gcs.service.email = "another@tests.iam.gserviceaccount.com"
    error = bucket.fails(14, "snapshots")
    assert "GOOGLE_APPLICATION_CREDENTIALS" in error["remedy"]
