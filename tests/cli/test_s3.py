"""Whole commands with a bucket as the store, chosen by the variables that people have: each service as the emulator plays it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.door import Cli
from tests.emulators.s3 import S3Emulator
from torpor.testing.compare import compare_trees


@pytest.mark.parametrize("profile", ["aws", "b2", "r2", "wasabi"])
def test_there_and_back(profile: str, tmp_path: Path, workspace: Path) -> None:
    (workspace / "noise.bin").write_bytes(os.urandom(40 << 20))  # more than one pack
    with S3Emulator(profile, page=3) as s3:
        cli = Cli(tmp_path / "home", tmp_path / "none", variables(s3, profile))
        made = cli.run("snapshot", workspace, "--json", "-v")
        assert made.code == 0, made.err
        back = cli.run("restore", "latest", tmp_path / "back", "--json", "-v")
        assert back.code == 0, back.err
        signed = [seen for seen in s3.requests if "X-Amz-Expires" in seen.query]
        said = [made, back]
        if profile in ("aws", "b2"):  # with conditional writes and without
            verified = cli.run("verify", "latest", "--full", "--json", "-v")
            assert verified.code == 0, verified.err
            said += [verified, cli.run("doctor", "--json", "-v")]  # which tries what a host may not do, too
        for done in said:
            assert s3.secret not in done.out + done.err
            assert "X-Amz-Signature" not in done.out + done.err
        packs = [name for name in s3.objects if name.startswith("packs/")]
        assert len(packs) > 2
        assert {seen.path.split("/")[2] for seen in signed} == {"packs"}  # a host asks for nothing else
        assert {seen.path.removeprefix("/bucket/") for seen in signed if seen.method == "PUT"} == set(packs)
        assert {seen.method for seen in signed} == {"GET", "PUT"}
    assert compare_trees(workspace, tmp_path / "back") == []


def variables(s3: S3Emulator, profile: str) -> dict[str, str]:
    """The bucket and its credentials, as each provider's users have them."""
    if profile == "b2":  # STORAGE_PROVIDER=b2 is the native API
        return {
            "TORPOR_STORAGE": f"s3://{s3.bucket}?endpoint={s3.url}&provider=b2", "B2_KEY_ID": s3.key, "B2_APPLICATION_KEY": s3.secret,
        }  # fmt: skip
    name = {"aws": "S3", "r2": "R2", "wasabi": "WASABI"}[profile]
    found = {"TORPOR_STORAGE": "", "STORAGE_PROVIDER": name.lower(), f"{name}_BUCKET": s3.bucket, f"{name}_ENDPOINT": s3.url}
    if profile == "aws":
        return found | {"AWS_ACCESS_KEY_ID": s3.key, "AWS_SECRET_ACCESS_KEY": s3.secret}
    return found | {f"{name}_ACCESS_KEY": s3.key, f"{name}_SECRET_KEY": s3.secret}
