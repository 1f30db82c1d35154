"""What is in a snapshot, and what differs between two."""

from __future__ import annotations

import os
from pathlib import Path

from tests.cli.door import Cli


def test_show(cli: Cli, workspace: Path) -> None:
    taken = cli.json("snapshot", workspace, "--name", "my name", "--label", "a=b")
    shown = cli.json("show", taken["snapshot_id"][:20])
    same = ("files", "raw_bytes", "stored_bytes", "new_bytes", "ratio", "lineage", "generation", "codecs", "snapshot_id")
    assert {key: shown[key] for key in same} == {key: taken[key] for key in same}
    assert shown["private"] | {"rental": ""} == {
        "name": "my name",
        "machine": "",
        "rental": "",
        "roots": [str(workspace)],
        "labels": {"a": "b"},
    }
    assert (shown["roots"], shown["receipts"], shown["problem_files"]) == ([str(workspace)], [], [])
    assert "keyring" not in shown
    text = cli.ok("show", "latest").out
    for line in ("name       my name", "labels     a=b", f"folders    {workspace}", "receipts   none: `torpor verify` makes one"):
        assert line in text


def test_files(cli: Cli, workspace: Path) -> None:
    cli.json("snapshot", workspace)
    names = ["", "empty/", "latest", "linked.py", "src/", "src/run.sh", "src/train.py", "weights.bin"]
    assert cli.ok("show", "latest", "--files").out.splitlines() == [f"{workspace}/{name}" for name in names]
    entries = {Path(entry["path"]).name: entry for entry in cli.json("show", "latest", "--files", "--long")["paths"]}
    assert (entries["run.sh"]["mode"], entries["run.sh"]["type"], entries["run.sh"]["size"]) == ("0755", "file", 10)
    assert (entries["latest"]["type"], entries["latest"]["target"]) == ("link", "weights.bin")
    assert (entries["train.py"]["type"], entries["train.py"]["target"]) == ("hardlink", "linked.py")
    assert entries["weights.bin"]["mtime_ns"] == (workspace / "weights.bin").stat().st_mtime_ns
    lines = cli.ok("show", "latest", "--files", "--long").out.splitlines()
    assert lines[0].startswith("drwx")
    assert lines[2].startswith("lrwx")
    assert lines[2].endswith(f"{workspace}/latest -> weights.bin")


def test_diff(cli: Cli, workspace: Path) -> None:
    first = cli.json("snapshot", workspace)["snapshot_id"]
    assert cli.ok("diff", "latest", "latest").out == "no difference\n"
    (workspace / "a new file").write_text("12345")
    (workspace / "src" / "run.sh").write_text("#!/bin/bash\n")
    (workspace / "latest").unlink()
    (workspace / "latest").symlink_to("src")
    (workspace / "empty").rmdir()
    (workspace / "empty").write_text("no folder any more")
    os.utime(workspace / "weights.bin", (1, 1))
    os.truncate(workspace / "linked.py", 7)
    (workspace / "src" / "train.py").unlink()
    second = cli.json("snapshot", workspace)["snapshot_id"]
    found = cli.json("diff", first, second)
    assert (found["before"], found["after"], found["by_ids"]) == (first, second, True)
    changes = {os.path.relpath(change["path"], workspace): change for change in found["changes"]}
    assert {name: change["kind"] for name, change in changes.items()} == {
        "a new file": "added", "src/run.sh": "changed", "latest": "changed", "empty": "changed", "weights.bin": "metadata",
        "linked.py": "changed", "src/train.py": "removed",
    }  # fmt: skip
    assert (changes["src/run.sh"]["size_before"], changes["src/run.sh"]["size_after"]) == (10, 12)
    assert found["added"] == {"count": 1, "bytes": 5}
    back = cli.json("diff", second, first)
    assert {change["kind"] for change in back["changes"] if change["path"].endswith("a new file")} == {"removed"}
    text = cli.ok("diff", first, second).out.splitlines()
    assert f"+ {workspace}/a new file  5 B" in text
    assert f"M {workspace}/src/run.sh  10 B → 12 B" in text
    assert text[-1].startswith("1 added (5 B), 1 removed")


def test_diff_of_different_workspaces(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    """Their ids are keyed apart, so sizes and times must do; a single folder is compared with a single folder."""
    cli.json("snapshot", workspace)
    os.system(f"cp -a {workspace} {tmp_path / 'copy'}")
    (tmp_path / "copy" / "more").write_text("x")
    cli.json("snapshot", tmp_path / "copy")
    ids = [row["snapshot_id"] for row in cli.json("snapshots")["snapshots"]]
    done = cli.ok("diff", *ids)
    assert "different workspaces" in done.err
    assert done.out.splitlines() == [f"+ {tmp_path / 'copy'}/more  1 B", "1 added (1 B)"]


def test_diff_of_several_folders(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "file").write_text("x")
    cli.json("snapshot", one, two)
    cli.json("snapshot", two)
    ids = [row["snapshot_id"] for row in cli.json("snapshots")["snapshots"]]
    changes = cli.json("diff", *ids)["changes"]
    assert [(change["kind"], change["path"]) for change in changes] == [("removed", str(one)), ("removed", f"{one}/file")]


def test_a_name_commands_no_terminal(cli: Cli, workspace: Path) -> None:
    """Nor does it break a table."""
    name = "a\x1b[31m\x1b]0;b\x07\nc"
    cli.ok("snapshot", workspace, "--name", name, "--label", f"{name}={name}")
    for words in (("snapshots",), ("show", "latest"), ("costs",), ("rm", "latest", "--dry-run")):
        done = cli.ok(*words)
        assert r"a\x1b[31m\x1b]0;b\x07\nc" in done.out, words
        assert not set(done.out + done.err) & {"\x1b", "\x07"}
    assert cli.json("snapshots")["snapshots"][0]["name"] == name
