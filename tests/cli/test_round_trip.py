"""Snapshot and restore, from the outside."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.door import COMMAND, POWERLESS, Cli
from tests.engine.test_scope import mounted
from torpor.testing.compare import compare_trees


def test_there_and_back(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    taken = cli.json("snapshot", workspace, "--name", "first", "--label", "team=vision")
    assert taken["created_repository"] is True
    assert taken["generation"] == 1
    assert (taken["files"], taken["read_files"], taken["unreadable"], taken["problems"]) == (3, 3, 0, [])
    assert taken["raw_bytes"] == taken["read_bytes"]
    assert taken["new_bytes"] >= taken["stored_bytes"] > 5 << 20
    assert taken["ratio"] == pytest.approx(taken["raw_bytes"] / taken["stored_bytes"], abs=1e-4)
    assert sum(use["raw_bytes"] for use in taken["codecs"].values()) == taken["raw_bytes"]

    back = cli.json("restore", "latest", tmp_path / "back")
    assert back["snapshot_id"] == taken["snapshot_id"]
    assert (back["files"], back["written_files"], back["kept_files"], back["removed"]) == (3, 3, 0, 0)
    assert back["raw_bytes"] == taken["raw_bytes"]
    assert 0 < back["usable_seconds"] <= back["seconds"]
    assert compare_trees(workspace, tmp_path / "back") == []


def test_the_second_snapshot_moves_what_changed(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    first = cli.json("snapshot", workspace)
    assert cli.json("snapshot", workspace)["new_bytes"] < 100_000
    awake = tmp_path / "awake"
    cli.json("restore", "latest", awake)
    unchanged = cli.json("snapshot", awake)
    assert unchanged["lineage"] == first["lineage"]
    assert (unchanged["generation"], unchanged["read_files"], unchanged["created_repository"]) == (3, 0, False)
    (awake / "src" / "new.py").write_text("new\n")
    third = cli.json("snapshot", awake)
    assert (third["read_files"], third["parent"]) == (1, unchanged["snapshot_id"])
    assert third["new_bytes"] < 100_000
    again = cli.json("snapshot", awake, "--rescan")
    assert (again["read_files"], again["new_bytes"] < 100_000) == (4, True)


def test_words_for_people(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    first = cli.ok("snapshot", workspace)
    assert "made repository" in first.err
    assert "torpor keys show" in first.err
    assert "torpor1-" not in first.out + first.err  # no terminal here: it could be a log
    assert "3 files, 5.24 MB → " in first.out
    second = cli.ok("snapshot", workspace)
    assert "made repository" not in second.err
    assert "there already 5.24 MB" in second.out
    back = cli.ok("restore", "latest", tmp_path / "back")
    assert "usable after" in back.err
    assert "complete after" in back.out
    assert cli.ok("snapshot", workspace, "-q").out == cli.json("snapshots")["snapshots"][-1]["snapshot_id"] + "\n"


def test_the_default_store_is_warned_of(cli: Cli, workspace: Path) -> None:
    cli.extra["TORPOR_STORAGE"] = ""
    done = cli.ok("snapshot", workspace)
    assert "warning: The repository is on this computer" in done.err
    assert (cli.home / "storage" / "config.json").exists()


@pytest.mark.parametrize("before", [True, False])
def test_common_options_stand_before_or_after(cli: Cli, workspace: Path, tmp_path: Path, before: bool) -> None:
    common = ["--storage", str(tmp_path / "other"), "--home", str(tmp_path / "elsewhere"), "--json", "-v", "--no-progress"]
    own = ["snapshot", str(workspace)]
    done = cli.ok(*(common + own if before else own + common))
    assert done.json["files"] == 3
    assert "scan ended: 8 files" in done.err
    assert (tmp_path / "other" / "config.json").exists()
    assert (tmp_path / "elsewhere" / "keys").exists()
    assert not cli.home.exists()
    assert not cli.storage.exists()


def test_what_cannot_be_read_is_named(cli: Cli, workspace: Path) -> None:
    (workspace / "secret").write_text("x")
    (workspace / "secret").chmod(0)
    os.mkfifo(workspace / "pipe")
    done = cli.run("snapshot", workspace, "--json", command=POWERLESS)
    assert done.code == 3, done.err
    assert (done.json["unreadable"], done.json["special"], done.json["files"]) == (1, 1, 3)
    assert f"unreadable: {workspace}/secret" in done.json["problems"]
    assert f"warning: unreadable: {workspace}/secret" in done.err
    shown = cli.json("show", "latest")
    assert {problem["path"] for problem in shown["problem_files"]} == {f"{workspace}/secret", f"{workspace}/pipe"}


@pytest.mark.parametrize("mode", ["--merge", "--replace"])
def test_folders_that_are_shut_in_the_target(cli: Cli, workspace: Path, tmp_path: Path, mode: str) -> None:
    """To root as well, where it lacks the right to enter all. A dry run opens none of them, and ends well."""
    (workspace / "src" / "deep").mkdir()
    (workspace / "src" / "deep" / "file").write_text("x")
    cli.json("snapshot", workspace)
    cli.json("restore", "latest", tmp_path / "back")
    for shut in (0o600, 0):
        (tmp_path / "back" / "src" / "deep").chmod(shut)
        (tmp_path / "back" / "src").chmod(shut)
        dry = cli.run("restore", "latest", tmp_path / "back", mode, "--dry-run", "--json", command=POWERLESS)
        assert dry.code == 0, dry.err
        assert (tmp_path / "back" / "src").stat().st_mode & 0o777 == shut
        done = cli.run("restore", "latest", tmp_path / "back", mode, "--json", command=POWERLESS)
        assert done.code == 0, done.err
        assert done.json["kept_files"] == 4
        assert compare_trees(workspace, tmp_path / "back") == []


def test_special_files_alone_are_no_failure(cli: Cli, workspace: Path) -> None:
    os.mkfifo(workspace / "pipe")
    assert cli.json("snapshot", workspace)["special"] == 1


def test_several_folders(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    other = tmp_path / "conda"
    other.mkdir()
    (other / "env.yml").write_text("name: x\n")
    cli.json("snapshot", workspace, other)
    cli.json("restore", "latest", tmp_path / "below")
    assert compare_trees(workspace, tmp_path / "below" / str(workspace).lstrip("/")) == []
    cli.json("restore", "latest", "--map", f"{workspace}={tmp_path / 'a'}", "--map", f"conda={tmp_path / 'b'}")
    assert compare_trees(workspace, tmp_path / "a") == []
    assert compare_trees(other, tmp_path / "b") == []


def test_merge_replace_and_their_dry_runs(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    cli.json("snapshot", workspace)
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("mine")
    assert "holds" in cli.fails(15, "restore", "latest", target)["what"]
    plan = cli.json("restore", "latest", target, "--replace", "--dry-run")
    assert (plan["dry_run"], plan["written_files"], plan["removed"]) == (True, 3, 1)
    assert [path.name for path in target.iterdir()] == ["mine"]
    cli.json("restore", "latest", target, "--merge")
    assert (target / "mine").exists()
    assert cli.json("restore", "latest", target, "--replace")["removed"] == 1
    assert compare_trees(workspace, target) == []


def test_a_dry_run_of_a_snapshot_writes_nothing(cli: Cli, workspace: Path) -> None:
    first = cli.json("snapshot", workspace, "--dry-run")
    assert (first["files"], first["read_files"], first["compared_with"]) == (3, 3, None)
    assert not cli.home.exists()
    assert not cli.storage.exists()
    taken = cli.json("snapshot", workspace)
    (workspace / "src" / "new.py").write_text("four")
    (workspace / "latest").unlink()
    before = cli.objects()
    plan = cli.json("snapshot", workspace, "--dry-run")
    assert plan["compared_with"] == taken["snapshot_id"]
    assert (plan["new_files"], plan["new_file_bytes"], plan["gone"]) == (1, 4, 1)
    assert cli.objects() == before
    assert cli.json("snapshot", workspace, "--dry-run", "--rescan")["read_files"] == 4


def test_a_machine(cli: Cli, workspace: Path) -> None:
    cli.json("snapshot", workspace)
    cli.json("restore", "latest", "local:box")
    taken = cli.json("snapshot", "local:box", "--name", "of the box")
    assert taken["read_files"] == 0
    assert [one["name"] for one in cli.json("snapshots", "--machine", "local:box")["snapshots"]] == ["of the box"]
    assert compare_trees(workspace, cli.home / "machines" / "box" / "workspace") == []


def test_a_dry_run_makes_no_machine(cli: Cli, workspace: Path) -> None:
    cli.json("snapshot", workspace)
    assert "is missing" in cli.fails(19, "restore", "latest", "local:box", "--dry-run")["what"]
    assert not (cli.home / "machines").exists()
    cli.json("restore", "latest", "local:box")
    assert cli.json("restore", "latest", "local:box", "--replace", "--dry-run")["written_files"] == 0


def test_excludes_codec_and_labels(cli: Cli, workspace: Path) -> None:
    (workspace / "__pycache__").mkdir()
    (workspace / "__pycache__" / "x.pyc").write_text("x")
    taken = cli.json(
        "snapshot", workspace, "--exclude", "*.sh", "--exclude", "weights.*", "--codec", "lz4", "--label", "a=1", "--label", "b=2=3"
    )
    assert taken["files"] == 1
    assert set(taken["codecs"]) == {"lz4"}
    assert cli.json("show", "latest")["private"]["labels"] == {"a": "1", "b": "2=3"}
    everything = cli.json("snapshot", workspace, "--no-default-excludes", "--memory", "400M", "--workers", "1", "--compare", "--level", "3")
    assert everything["files"] == 4


def test_without_encryption(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    done = cli.ok("snapshot", workspace, "--encryption", "none")
    assert "not encrypted" in done.err
    error = cli.fails(2, "snapshot", workspace, "--encryption", "on")
    assert "is not encrypted" in error["what"]
    cli.json("restore", "latest", tmp_path / "back")
    assert compare_trees(workspace, tmp_path / "back") == []


def test_standard_output_closed_early(cli: Cli, workspace: Path) -> None:
    for number in range(3000):
        (workspace / f"a-rather-long-name-so-that-the-pipe-is-full-at-some-time-{number:05}").touch()
    cli.json("snapshot", workspace)
    listing = subprocess.Popen(
        ["sh", "-c", '"$@" | head -n 1', "sh", *COMMAND, "show", "latest", "--files"],
        env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    out, err = listing.communicate(timeout=60)
    assert (out, err) == (f"{workspace}/\n", "")


def test_json_is_the_last_line_and_the_only_one(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    done = cli.run("snapshot", workspace, "--json", "-v")
    assert json.loads(done.out)["files"] == 3
    assert done.out.count("\n") == 1
    assert "3 files" in done.err
    failed = cli.run("restore", "latest", workspace, "--json")
    assert json.loads(failed.out)["error"] == "TargetNotEmpty"


if os.geteuid() == 0:

    def test_what_is_mounted_below_is_said_to_be_left_out(cli: Cli, tmp_path: Path) -> None:
        folder = tmp_path / "workspace"
        (folder / "data").mkdir(parents=True)
        with mounted(folder / "data"):
            (folder / "data" / "set").write_text("of another file system")
            told = cli.ok("snapshot", folder)
            asked = cli.json("snapshot", folder)
            whole = cli.json("snapshot", folder, "--across-file-systems")
        assert f"Left out, as other file systems: {folder}/data. --across-file-systems saves them too." in told.err
        assert (asked["mounts"], asked["problems"], whole["mounts"], whole["files"]) == ([f"{folder}/data"], [], [], 1)


def test_a_store_and_keys_inside_the_workspace_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "file").write_bytes(os.urandom(100_000))
    cli = Cli(folder / "home", folder / "store")
    cli.home.mkdir()
    cli.ok("snapshot", folder)
    told = cli.ok("snapshot", folder, "--json")
    assert (told.json["files"], told.json["raw_bytes"]) == (1, 100_000)
    assert told.err.count("which is torpor's own") == 2


@pytest.mark.parametrize("line", ["!", "\\", "a\\", "[z-a]", "[[:alpha:]"])
def test_an_odd_line_in_an_ignore_file(cli: Cli, tmp_path: Path, line: str) -> None:
    """Somebody else's file, in a folder of theirs: what parses of it holds, and everything is saved; one's own words are refused."""
    folder = tmp_path / "workspace"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/.torporignore").write_text(f"*.log\n{line}\nlast\n")
    for name in ("kept", "x.log", "last"):
        (folder / "sub" / name).write_text(name)
    told = cli.ok("snapshot", folder)
    assert "Warning: " not in told.err
    assert ("they exclude nothing" in told.err) == (line != "[[:alpha:]")
    assert cli.json("snapshot", folder, "--dry-run")["files"] == 2
    cli.ok("restore", "latest", tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out/sub")) == [".torporignore", "kept"]
    if line != "[[:alpha:]":
        refused = cli.run("snapshot", folder, "--exclude", line)
        assert (refused.code, "Unforeseen" in refused.err) == (2, False)
