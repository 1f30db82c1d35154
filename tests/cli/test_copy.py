"""copy, restores from copies, the cache, and verifications that go on."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.cli.door import Cli, finish, patched, until
from torpor.testing.compare import compare_trees

# A store whose third pack is not read before the first signal.
SLOW_READ = """
import threading
from torpor.cli import stop
from torpor.storage.transport_file import FileTransport
get_into, lock, nap, seen = FileTransport.get_into, threading.Lock(), threading.Event(), []
def slow(self, call, start, out):
    with lock:
        seen.append(call.name)
        wait = len(seen) > 2
    if wait:
        while not stop.seen():
            nap.wait(0.01)
    return get_into(self, call, start, out)
FileTransport.get_into = slow
"""


@pytest.fixture
def taken(cli: Cli, workspace: Path) -> str:
    snapshot: str = cli.json("snapshot", workspace)["snapshot_id"]
    return snapshot


def test_copy_and_restore_from_it(cli: Cli, taken: str, workspace: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    plan = cli.json("copy", "latest", "--to", copy, "--dry-run")["copies"][0]
    assert not copy.exists()
    done = cli.json("copy", "latest", "--to", copy)["copies"][0]
    assert (plan["objects"], plan["bytes"]) == (done["objects"], done["bytes"])
    assert (done["snapshot_id"], done["url"], done["new_repository"]) == (taken, copy.as_uri(), True)
    assert "0 objects (0 B)" in cli.ok("copy", "latest", "--to", copy).out
    assert cli.json("show", "latest")["copies"] == [copy.as_uri()]
    assert copy.as_uri() in cli.ok("show", "latest").out
    alone = Cli(cli.home, copy)
    alone.json("restore", "latest", tmp_path / "back")
    assert compare_trees(workspace, tmp_path / "back") == []
    assert alone.json("verify", "latest", "--full")["hurt"] == []


def test_a_copy_that_would_be_none(cli: Cli, taken: str, tmp_path: Path) -> None:
    """The same folder by another name, one inside the store, one round it."""
    (tmp_path / "link").symlink_to(cli.storage)
    assert "is where the snapshot is" in cli.fails(2, "copy", taken, "--to", tmp_path / "link")["what"]
    for place in (cli.storage / "packs", cli.storage / "copy", tmp_path / "link" / "copy", cli.storage.parent):
        assert "lies in" in cli.fails(2, "copy", taken, "--to", place)["what"]
    assert cli.json("show", taken)["copies"] == []
    assert not (cli.storage / "copy").exists()


def test_everywhere_by_the_environment(cli: Cli, taken: str, tmp_path: Path) -> None:
    cli.fails(2, "copy", "--all")
    cli.extra["TORPOR_COPIES"] = f"{tmp_path / 'one'},{(tmp_path / 'two').as_uri()}"
    copies = cli.json("copy", "--all")["copies"]
    assert [copy["url"] for copy in copies] == [(tmp_path / name).as_uri() for name in ("one", "two")]
    cli.fails(2, "copy", taken, "--all")
    cli.fails(2, "copy", taken, "--to", cli.storage)


def test_a_restore_says_what_it_read_instead(cli: Cli, taken: str, workspace: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    cli.ok("copy", taken, "--to", copy)
    for path in cli.packs():
        path.unlink()
    done = cli.ok("restore", "latest", tmp_path / "back")
    assert compare_trees(workspace, tmp_path / "back") == []
    assert f"warning: {cli.storage.as_uri()} does not give what it should" in done.err
    assert f"{copy.as_uri()} was read instead" in done.err
    shutil.rmtree(cli.storage)
    done = cli.ok("restore", "latest", tmp_path / "again")
    assert compare_trees(workspace, tmp_path / "again") == []
    assert f"can't be used: There is no repository at {cli.storage.as_uri()}. Reading the copy at {copy.as_uri()}" in done.err


def test_the_cache(cli: Cli, taken: str, tmp_path: Path) -> None:
    first = cli.json("restore", taken, tmp_path / "one", "--cache", tmp_path / "cache")
    assert (first["cached_bytes"], first["requests"] > 0) == (0, True)
    again = cli.json("restore", taken, tmp_path / "two", "--cache", tmp_path / "cache")
    assert (again["cached_bytes"] >= first["fetched_bytes"], again["requests"], again["fetched_bytes"]) == (True, 0, 0)
    small = cli.json("restore", taken, tmp_path / "three", "--cache", tmp_path / "cache", "--cache-size", "100k")
    assert small["cached_bytes"] > 0
    assert "from the cache" in cli.ok("restore", taken, tmp_path / "four", "--cache", tmp_path / "cache").out


def test_an_interrupted_verification_goes_on(cli: Cli, tmp_path: Path) -> None:
    root = tmp_path / "large"
    root.mkdir()
    (root / "random.bin").write_bytes(os.urandom(160 << 20))
    snapshot = cli.json("snapshot", root)["snapshot_id"]
    process = cli.start("verify", snapshot, "--full", "--json", command=patched(SLOW_READ))
    notes = cli.home / "verifying"
    until(lambda: notes.exists() and any(path.read_text().count("\n") == 2 for path in notes.iterdir()), "two packs")
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.code == 130, done.err
    assert "packs were read and are right; they are remembered for a day." in done.json["safe"]
    again = cli.json("verify", snapshot, "--full")["snapshots"][0]
    assert again["earlier_packs"] >= 2
    assert again["read_packs"] + again["earlier_packs"] == again["packs"]
    assert list(notes.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [("--sample", "0%"), ("--sample", "101%"), ("--sample", "x"), ("--sample", "5", "--full"), ("--restart",), ("--limit-rate", "0")],
)
def test_what_verify_refuses(cli: Cli, taken: str, words: tuple[str, ...]) -> None:
    cli.fails(2, "verify", taken, *words)


def test_verify_as_much_as_asked_for(cli: Cli, taken: str) -> None:
    assert cli.json("verify", taken, "--sample", "1")["snapshots"][0]["read_packs"] == 1
    whole = cli.json("verify", taken, "--sample", "100%", "--limit-rate", "1G")["snapshots"][0]
    assert whole["read_packs"] == whole["packs"]


def test_nothing_goes_into_a_store_that_ends_with_its_process(cli: Cli, taken: str, workspace: Path) -> None:
    """A machine hibernated into `memory:` would be gone with its snapshot."""
    assert taken
    for words in (
        ("copy", "latest", "--to", "memory:"),
        ("snapshot", workspace, "--storage", "memory:"),
        ("--storage", "memory:", "hibernate", "local:a"),
    ):
        assert "ends with the process" in cli.fails(2, *words)["what"]


def test_the_secret_in_the_url_of_a_copy_is_not_repeated(cli: Cli, taken: str, tmp_path: Path) -> None:
    assert taken
    cli.extra["TORPOR_COPIES"] = "s3://KEY:SECRETQQ@bucket"
    done = cli.run("restore", "latest", tmp_path / "back", "--json")
    assert done.code == 2
    assert "SECRETQQ" not in done.out + done.err
