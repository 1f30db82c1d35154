"""torpor doctor, as a user types it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.door import POWERLESS, Cli, patched
from tests.emulators.b2 import B2
from tests.emulators.gcs import Gcs
from tests.emulators.s3 import S3Emulator
from torpor.cli.doctor import _cost
from torpor.clock import FakeClock
from torpor.storage.memory import MemoryStore

STORE = {"reachable", "writable", "readable", "list", "conditional put", "clock", "delete"}
GRANTS = {"grant", "checksum", "grant: names", "grant: end"}
HERE = {"codecs", "space: home", "space: temporary files", "open files", "versions"}
# A process that is stopped while it measures, by a signal that comes with its third pack.
STOPPED = """
import os, signal
from torpor.control import probe_speed
put, left = probe_speed._put, [3]
def stop(*arguments):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGINT)
    return put(*arguments)
probe_speed._put = stop
"""


def checks(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in answer["checks"]}


def test_before_and_after(cli: Cli, workspace: Path) -> None:
    first = checks(cli.json("doctor", "--quick"))
    assert first["repository"]["state"] == "warn"
    assert not (cli.storage / "config.json").exists()
    taken = cli.json("snapshot", workspace)
    before = cli.objects()
    found = checks(cli.json("doctor"))
    mine = {"throughput", "wake", "repository", "keys", "keys in the store", "recovery key", "space: store"}
    assert set(found) == STORE | GRANTS | HERE | mine
    assert {name for name, check in found.items() if check["state"] != "ok"} <= {"recovery key", "space: home", "space: store"}
    assert found["recovery key"]["state"] == "warn"
    assert "keys confirm" in found["recovery key"]["remedy"]
    speed, wake = found["throughput"]["figures"], found["wake"]["figures"]
    assert min(speed["up_mb_per_s"], speed["down_mb_per_s"]) > 1
    assert (taken["snapshot_id"] in found["wake"]["text"], wake["bytes"] > 5 << 20) == (True, True)
    assert wake["seconds"] == pytest.approx(wake["bytes"] / speed["down_mb_per_s"] / 1e6, abs=0.001)
    assert cli.objects() == before
    assert list((cli.storage / "packs").iterdir()) == [cli.storage / "packs" / taken["snapshot_id"]]
    cli.json("keys", "confirm", typed=cli.json("keys", "show")["recovery_key"] + "\n")
    assert "ok    recovery key: confirmed" in cli.ok("doctor", "--quick").out


def test_a_wake_without_a_snapshot(cli: Cli) -> None:
    wake = checks(cli.json("doctor"))["wake"]
    assert ("56.0 GB at " in wake["text"], wake["figures"]["bytes"]) == (True, 56e9)
    assert cli.objects() == {}


def test_what_fails_is_named(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    cli.json("snapshot", workspace)
    stranger = Cli(tmp_path / "stranger", cli.storage)
    error = stranger.fails(1, "doctor", "--quick")
    assert [check["name"] for check in error["checks"] if check["state"] == "fail"] == ["keys"]
    (cli.storage / "doctor").chmod(0o500)
    try:
        done = cli.run("doctor", command=POWERLESS)
    finally:
        (cli.storage / "doctor").chmod(0o700)
    assert done.code == 1
    assert "FAIL  writable:" in done.out
    assert "throughput" not in done.out
    assert "ok    codecs:" in done.out
    (cli.storage / "config.json").unlink()
    assert checks(cli.fails(1, "doctor", "--quick"))["repository"]["state"] == "fail"


def test_a_stop_leaves_nothing(cli: Cli) -> None:
    done = cli.run("doctor", "--json", command=patched(STOPPED))
    assert (done.code, done.json["error"]) == (130, "Interrupted"), done.err
    assert "ok    grant: end" in done.err
    assert cli.objects() == {}


def test_every_kind_of_store(cli: Cli, tmp_path: Path) -> None:
    with S3Emulator("r2") as s3, B2() as b2, Gcs(tmp_path) as gcs:
        for given in (
            {"TORPOR_STORAGE": f"r2://{s3.bucket}/a?endpoint={s3.url}", "R2_ACCESS_KEY": s3.key, "R2_SECRET_KEY": s3.secret},
            {"TORPOR_STORAGE": f"b2://{b2.bucket}/a?realm={b2.realm}", "B2_KEY_ID": b2.key_id, "B2_APPLICATION_KEY": b2.key},
            {"TORPOR_STORAGE": f"gs://{gcs.bucket}/a?endpoint={gcs.url}", "GOOGLE_APPLICATION_CREDENTIALS": str(gcs.credentials_file)},
        ):
            done = Cli(cli.home, tmp_path / "none", given).ok("doctor", "--quick", "--json", "-v")
            found = checks(done.json)
            assert {name for name, check in found.items() if check["state"] == "ok"} >= STORE | GRANTS | (HERE - {"space: home"})
            for secret in (s3.secret, b2.key, "Signature="):
                assert secret not in done.out + done.err
        assert (s3.objects, b2.the_bucket.files, gcs.objects) == ({}, {}, {})


@pytest.mark.parametrize(("provider", "told"), [("aws", "$0.0974"), ("wasabi", "$0.0255"), ("r2", ""), ("memory", "")])
def test_what_it_costs(provider: str, told: str) -> None:
    """Egress at Amazon, ninety days of storage at Wasabi; less than a cent is not told."""
    store = MemoryStore(FakeClock())
    store._capabilities = store.capabilities._replace(provider=provider)
    found = list(_cost(store, {"sent_bytes": 1064e6, "received_bytes": 1080e6}))
    assert [told in check.text for check in found] == ([True] if told else [])
