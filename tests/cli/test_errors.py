"""How commands fail: exit codes, words for people and for programs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.door import POWERLESS, Cli, patched
from torpor.control.repository import open_repository
from torpor.errors import MachineError, TorporError, all_errors, from_dict
from torpor.format import envelope
from torpor.settings import load

MIB = 1 << 20


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["snapsho"], "Did you mean 'snapshot'"),
        (["snapshot"], "Missing argument 'SOURCE...'"),
        (["snapshot", "/", "--codec", "zip"], "'zip' is not one of"),
        (["snapshot", "/", "--level", "-1"], "Invalid value for '--level'"),
        (["snapshot", "/", "--level", "much"], "Invalid value for '--level'"),
        (["snapshot", "/", "--level", "99"], "zstd has no level 99"),
        (["snapshot", "/", "--memory", "lots"], "--memory 'lots' is no size"),
        (["snapshot", "/", "--memory", "1M"], "too little"),
        (["snapshot", "/", "--label", "x"], "is no label"),
        (["snapshot", "/", "/"], "named twice"),
        (["snapshot", "/", "local:box"], "A machine is a source by itself"),
        (["snapshot", "local:../box"], "is no name for a machine"),
        (["restore", "latest"], "No target was given"),
        (["restore", "latest", "/x", "--merge", "--replace"], "exclude each other"),
        (["restore", "latest", "--map", "x"], "maps nothing"),
        (["restore", "latest", "/x", "/y"], "unexpected extra argument"),
        (["wake", "latest", "--interruptible"], "--interruptible is about a machine to rent"),
        (["wake", "latest", "--on", "local:box", "--spend", "1"], "--spend is about a machine to rent"),
        (["wake", "latest", "--on", "local:box", "--gpu", "L4"], "--on names a machine that is there"),
        (["verify"], "Name one snapshot"),
        (["verify", "latest", "--all"], "Name one snapshot"),
        (["verify", "--all", "--full", "--presence"], "exclude each other"),
        (["prune", "--grace", "soon"], "is no length of time"),
        (["keys", "export"], "No file was given"),
        (["keys", "import", "--file", "a", "--recovery-key-file", "b"], "exclude each other"),
        (["snapshots", "--storage", "sftp://x"], "There is no storage of the kind sftp:"),
        (["snapshots", "--nonsense"], "No such option"),
    ],
)
def test_usage(cli: Cli, words: list[str], what: str) -> None:
    assert what in cli.fails(2, *words)["what"]


def test_usage_without_json(cli: Cli) -> None:
    for words, what in ((["keys"], "Missing command."), (["snapshots", "--storage"], "requires an argument")):
        done = cli.run(*words)
        assert (done.code, done.out) == (2, "")
        assert what in done.err


def test_no_command_shows_the_help(cli: Cli) -> None:
    done = cli.run()
    assert (done.code, done.err) == (2, "")
    assert "Usage: torpor" in done.out


def test_missing_sources_and_machines(cli: Cli, tmp_path: Path) -> None:
    assert "can't be read" in cli.fails(10, "snapshot", tmp_path / "nothing")["what"]
    assert "is missing" in cli.fails(19, "snapshot", "local:box")["what"]


def test_what_the_system_refuses_is_named(cli: Cli, workspace: Path) -> None:
    """A file where torpor keeps a folder of its own."""
    (cli.home / "host").mkdir(parents=True)
    (cli.home / "host" / "records").touch()
    error = cli.fails(23, "snapshot", workspace)
    assert f"at {cli.home}/host/records" in error["what"]
    assert "Not a directory" in error["what"]


def test_without_keys(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    cli.json("snapshot", workspace)
    stranger = Cli(tmp_path / "stranger", cli.storage)
    for words in (["restore", "latest", str(tmp_path / "x")], ["snapshot", str(workspace)], ["verify", "latest"], ["keys", "show"]):
        assert "are not on this computer" in stranger.fails(11, *words)["what"]
    assert stranger.json("snapshots")["snapshots"][0]["name"] is None
    assert not (tmp_path / "x").exists()


def test_damage(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    first = cli.json("snapshot", workspace)["snapshot_id"]
    second = cli.json("snapshot", workspace)["snapshot_id"]
    pack = max(cli.packs(), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    name = str(pack.relative_to(cli.storage))
    cli.json("verify", second, "--presence")
    error = cli.fails(12, "verify", second, "--full")
    assert set(error["snapshots"][0]["damage"]) == {name}
    assert error["hurt"] == sorted([first, second])
    assert error["snapshots"][0]["receipt"] is None
    told = cli.run("verify", "--all", "--full")
    assert told.code == 12
    assert f"{second} DAMAGED" in told.out
    assert f"{name}: its BLAKE3 is not the one the index names" in told.out
    assert f"hurts {first} too" in told.out
    assert cli.fails(12, "restore", "latest", tmp_path / "x")["error"] == "Damaged"
    pack.unlink()
    missing = cli.fails(12, "verify", "latest", "--presence")
    assert missing["snapshots"][0]["damage"] == {name: "it is missing, or has another size or digest"}


def test_a_manifest_that_lies(cli: Cli, workspace: Path) -> None:
    taken = cli.json("snapshot", workspace)["snapshot_id"]
    good = cli.json("snapshot", workspace)["snapshot_id"]
    manifest = cli.storage / "snapshots" / f"{taken}.json"
    manifest.write_text(manifest.read_text().replace('"files":3', '"files":4'))
    error = cli.fails(12, "show", taken)
    assert "signature" in error["what"]
    listed = cli.fails(12, "snapshots")
    assert [row["snapshot_id"] for row in listed["snapshots"]] == [good]
    assert set(listed["damaged"]) == {taken}
    assert cli.fails(12, "verify", "--all")["snapshots"][0]["ok"] is False
    assert "nobody knows what it needs" in cli.fails(12, "prune")["what"]
    assert "--damaged" in cli.fails(12, "rm", taken, "--yes")["remedy"]
    cli.ok("rm", taken, "--yes", "--damaged")
    cli.ok("prune")
    assert [row["snapshot_id"] for row in cli.json("snapshots")["snapshots"]] == [good]


def test_nonsense_in_the_place_of_a_manifest(cli: Cli, workspace: Path) -> None:
    taken = cli.json("snapshot", workspace)["snapshot_id"]
    (cli.storage / "snapshots" / f"{taken}.json").write_text("{}")
    assert cli.fails(13, "show", taken)["error"] == "Malformed"


def test_a_snapshot_that_vanished(cli: Cli, workspace: Path) -> None:
    cli.json("snapshot", workspace)
    newest = cli.json("snapshot", workspace)["snapshot_id"]
    (cli.storage / "snapshots" / f"{newest}.json").unlink()
    for words in (["snapshots"], ["verify", "--all"], ["snapshot", str(workspace)]):
        assert newest in cli.fails(21, *words)["what"]


def test_a_lost_configuration(cli: Cli, workspace: Path) -> None:
    cli.json("snapshot", workspace)
    (cli.storage / "config.json").unlink()
    assert "its configuration was lost" in cli.fails(12, "snapshot", workspace)["what"]


def test_a_store_that_refuses(cli: Cli, workspace: Path) -> None:
    cli.json("snapshot", workspace)
    (cli.storage / "snapshots").chmod(0o500)
    try:
        error = cli.fails(14, "snapshot", workspace, command=POWERLESS)
    finally:
        (cli.storage / "snapshots").chmod(0o700)
    assert error["error"] in ("StorageUnavailable", "Refused")


def test_a_full_disk(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    cli.json("snapshot", workspace)
    full = "import os\nfrom types import SimpleNamespace\nos.statvfs = lambda path: SimpleNamespace(f_bavail=1, f_frsize=4096)"
    error = cli.fails(20, "restore", "latest", tmp_path / "x", command=patched(full))
    assert error["error"] == "NoSpace"


def test_a_newer_format(cli: Cli, workspace: Path) -> None:
    cli.json("snapshot", workspace)
    repository = open_repository(load(cli.environment))
    keys, path = repository.private(), next((cli.storage / "snapshots").iterdir())
    payload = repository.verify("manifest", path.read_bytes(), path.name).replace(b'"format":1', b'"format":9')
    path.write_bytes(envelope.wrap("manifest", repository.id, payload, keys.id, keys.private.sign))
    error = cli.fails(22, "show", "latest")
    assert "has format version 9" in error["what"]
    assert "newer torpor" in error["remedy"]


@pytest.mark.parametrize(("module", "line"), [("prefect", 'pip install "prefect=='), ("flows", "./dev setup")])
@pytest.mark.parametrize("words", [["hibernate", "local:box"], ["wake", "latest"], ["demo"]])
def test_what_is_not_installed(cli: Cli, module: str, line: str, words: list[str]) -> None:
    hidden = f"import sys\nsys.modules[{module!r}] = None"
    others = (
        "" if module == "flows" else "\nimport types\nsys.modules['flows'] = types.ModuleType('flows')\nsys.modules['flows'].__spec__ = 1"
    )
    error = cli.fails(24, *words, command=patched(hidden + others))
    assert line in error["remedy"]


def test_an_unforeseen_error(cli: Cli, workspace: Path) -> None:
    defect = patched("import torpor.settings\ndef load(*a): raise ZeroDivisionError('oh')\ntorpor.settings.load = load")
    error = cli.fails(1, "snapshot", workspace, command=defect)
    assert error["what"] == "Unforeseen: ZeroDivisionError: oh"
    quiet = cli.run("snapshot", workspace, command=defect)
    assert "Traceback" not in quiet.err
    assert "Traceback" in cli.run("snapshot", workspace, "-v", command=defect).err
    cli.extra["TORPOR_DEBUG"] = "1"
    assert "Traceback" in cli.run("snapshot", workspace, command=defect).err


def test_every_class_has_an_exit_code_of_its_own() -> None:
    own = {name: cls.exit_code for name, cls in all_errors().items() if "exit_code" in vars(cls)}
    assert len(set(own.values())) == len(own)
    assert 3 not in own.values()


def test_names_that_are_no_text(cli: Cli, tmp_path: Path) -> None:
    root = tmp_path / "odd"
    root.mkdir()
    for name in (b"caf\xe9", b"new\nline", b"tab\t", "schön".encode()):
        with open(os.path.join(os.fsencode(root), name), "wb") as file:
            file.write(b"x")
    cli.json("snapshot", root)
    listed = [os.path.basename(entry["path"]) for entry in cli.json("show", "latest", "--files")["paths"]]
    assert {"caf\\xe9", "new\\nline", "tab\\t", "schön"} <= set(listed)
    cli.extra["PYTHONIOENCODING"] = "ascii"
    done = cli.ok("show", "latest", "--files")
    assert "sch\\xf6n" in done.out
    assert json.dumps(done.out).isascii()


def test_an_error_whose_class_nobody_loaded_here_keeps_its_exit_code() -> None:
    """Flows run in a process of their own, and raise what only they have imported."""
    error = from_dict({"error": "NobodyLoadedThis", "what": "w", "safe": "s", "remedy": "r", "exit_code": 19})
    assert (type(error), error.exit_code, str(error)) == (MachineError, 19, "w s r")
    assert type(from_dict({"error": "NobodyLoadedThis", "exit_code": 99})) is TorporError


def test_sweep_without_an_account(cli: Cli) -> None:
    """It says that nobody was asked, and not that nothing is there."""
    cli.extra |= {"VAST_API_KEY": "", "GCE_PROJECT": "", "GOOGLE_CLOUD_PROJECT": ""}
    assert "Nobody was asked" in cli.fails(2, "sweep")["what"]


def test_a_group_without_a_command(cli: Cli) -> None:
    assert cli.fails(2, "keys")["what"] == "Missing command."
    assert cli.run("keys", "--json", "show").json["error"] == "NotFound"
