"""Keys: shown, confirmed, exported, imported; a second computer."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.cli.door import Cli
from torpor.testing.compare import compare_trees


@pytest.fixture
def recovery(cli: Cli, workspace: Path) -> str:
    """The recovery key of a repository with one snapshot."""
    cli.json("snapshot", workspace)
    return str(cli.json("keys", "show")["recovery_key"])


def test_show(cli: Cli, recovery: str) -> None:
    done = cli.ok("keys", "show")
    assert done.out == recovery + "\n"
    assert recovery.startswith("torpor1-")
    assert "not confirmed yet" in done.err
    assert Path(cli.json("keys", "show")["file"]).stat().st_mode & 0o777 == 0o600


def test_confirm(cli: Cli, recovery: str) -> None:
    wrong = recovery[:-1] + ("0" if recovery[-1] != "0" else "1")
    done = cli.run("keys", "confirm", typed=wrong + "\n")
    assert done.code == 2
    assert "slip" in done.err
    assert cli.run("keys", "confirm", typed="\n").code == 2
    assert cli.json("keys", "show")["confirmed"] is False
    assert cli.json("keys", "confirm", typed=f" {recovery.upper()} \n")["confirmed"] is True
    assert cli.json("keys", "show")["confirmed"] is True


def test_a_second_computer_needs_the_recovery_key_alone(cli: Cli, recovery: str, workspace: Path, tmp_path: Path) -> None:
    other = Cli(tmp_path / "other", cli.storage)
    assert other.json("keys", "import", typed=recovery + "\n")["repository"] == cli.json("keys", "show")["repository"]
    other.json("restore", "latest", tmp_path / "back")
    assert compare_trees(workspace, tmp_path / "back") == []
    assert other.json("keys", "show")["confirmed"] is True
    other.json("snapshot", tmp_path / "back")


@pytest.mark.parametrize("way", ["file", "environment", "environment alone"])
def test_other_ways_for_the_recovery_key(cli: Cli, recovery: str, tmp_path: Path, way: str) -> None:
    other = Cli(tmp_path / "other", cli.storage)
    if way == "file":
        (tmp_path / "paper").write_text(recovery + "\n")
        other.json("keys", "import", "--recovery-key-file", tmp_path / "paper")
    else:
        other.extra["TORPOR_RECOVERY_KEY"] = recovery
        if way == "environment":
            other.json("keys", "import")
            del other.extra["TORPOR_RECOVERY_KEY"]
    other.json("restore", "latest", tmp_path / "back")
    assert other.run("keys", "show", recovery).code == 2  # never an argument


def test_the_key_of_another_repository(cli: Cli, recovery: str, workspace: Path, tmp_path: Path) -> None:
    other = Cli(tmp_path / "other", tmp_path / "other store")
    other.json("snapshot", workspace)
    stranger = Cli(tmp_path / "stranger", other.storage)
    (tmp_path / "paper").write_text(recovery)
    assert "does not open" in stranger.fails(11, "keys", "import", "--recovery-key-file", tmp_path / "paper")["what"]
    cli.json("keys", "export", "--file", tmp_path / "keys.json")
    assert "another repository" in stranger.fails(11, "keys", "import", "--file", tmp_path / "keys.json")["what"]
    assert not (stranger.home / "keys").exists()


def test_export_and_import_of_a_file(cli: Cli, recovery: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    assert cli.json("keys", "export", "--file", file)["under_passphrase"] is False
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    assert "is there already" in cli.fails(2, "keys", "export", "--file", file)["what"]
    assert file.read_bytes() == before
    assert "can't be written" in cli.fails(2, "keys", "export", "--file", tmp_path / "no" / "keys.json")["what"]
    other = Cli(tmp_path / "other", cli.storage)
    other.json("keys", "import", "--file", file)
    assert other.json("keys", "show")["recovery_key"] == recovery


def test_a_passphrase(cli: Cli, recovery: str, tmp_path: Path) -> None:
    (tmp_path / "phrase").write_text("correct horse\n")
    file = tmp_path / "keys.json"
    assert cli.json("keys", "export", "--file", file, "--passphrase-file", tmp_path / "phrase")["under_passphrase"] is True
    assert "root" not in json.loads(file.read_text())
    other = Cli(tmp_path / "other", cli.storage)
    assert "under a passphrase" in other.fails(11, "keys", "import", "--file", file)["what"]
    other.extra["TORPOR_PASSPHRASE"] = "wrong"
    assert "not the one" in other.fails(11, "keys", "import", "--file", file)["what"]
    other.extra["TORPOR_PASSPHRASE"] = "correct horse"
    other.json("keys", "import", "--file", file)
    assert other.json("keys", "show")["recovery_key"] == recovery
    del other.extra["TORPOR_PASSPHRASE"]  # on that computer the keys are under it too
    assert "under a passphrase" in other.fails(11, "keys", "show")["what"]


def test_files_that_are_none(cli: Cli, recovery: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("[]")
    assert "is not a file of keys" in cli.fails(2, "keys", "import", "--file", tmp_path / "x")["what"]
    assert "can't be read" in cli.fails(2, "keys", "import", "--file", tmp_path / "nothing")["what"]
    assert "not a recovery key" in cli.fails(2, "keys", "import", "--recovery-key-file", tmp_path / "x")["what"]


def test_an_empty_file_is_no_passphrase(cli: Cli, recovery: str, tmp_path: Path) -> None:
    assert recovery
    (tmp_path / "empty").write_text("\n")
    cli.fails(2, "keys", "export", "--file", tmp_path / "keys.json", "--passphrase-file", tmp_path / "empty")
    assert not (tmp_path / "keys.json").exists()


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_keys_that_the_store_lost_are_told_and_put_there_again(cli: Cli, recovery: str, tmp_path: Path, harm: str) -> None:
    (path,) = (cli.storage / "keys").iterdir()
    path.unlink()
    if harm == "damaged":
        path.write_text("{}")
    assert "would not bring the keys back" in cli.fails(12, "verify", "latest", "--presence")["what"]
    checks = {check["name"]: check for check in cli.run("doctor", "--quick", "--json").json["checks"]}
    assert checks["keys in the store"]["state"] == "fail"
    assert "are there again" in cli.ok("keys", "confirm", typed=recovery + "\n").err
    assert cli.json("verify", "latest", "--presence")["keys_damage"] is None
    Cli(tmp_path / "other", cli.storage).json("keys", "import", typed=recovery + "\n")
