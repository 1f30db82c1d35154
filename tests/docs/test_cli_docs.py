"""docs/cli.md says what the command line does: every command, option, exit code and JSON field."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.cli.door import Cli
from torpor.cli import commands, parse
from torpor.cli.parameters import COMMON, Parameter
from torpor.cli.session import EXIT_PIPE
from torpor.errors import EXIT_PROBLEMS, all_errors

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
SECTIONS = dict(re.findall(r"^## (?:torpor )?(.+?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))


def _row(parameter: Parameter) -> str:
    """The line of a table that a parameter should have."""
    metavar = parameter.metavar.replace("|", "\\|") + "…" * (parameter.many and not parameter.flags)
    words = [*parameter.flags] if parameter.flags else [metavar]
    value = f" `{metavar}`" if parameter.flags and metavar else ""
    return f"| {', '.join(f'`{word}`' for word in words)}{value} | {parameter.help} |"


def _json(section: str) -> set[str]:
    """Words in code type after "JSON:"."""
    return set(re.findall(r"`([a-z_]+)`", section.partition("**JSON:**")[2]))


def undocumented(name: str, answer: dict[str, Any]) -> set[str]:
    """Fields of a command's answer, and of the first row of each of its lists, that the page does not have."""
    real = set(answer)
    for value in answer.values():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            real |= set(value[0])
    return real - _json(SECTIONS[name.partition(" --")[0]])


def test_commands_in_the_table_s_order() -> None:
    assert re.findall(r"^## torpor (.+)$", PAGE, re.MULTILINE) == list(commands.COMMANDS)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_a_command(name: str) -> None:
    section = SECTIONS[name]
    assert section.strip().startswith(commands.COMMANDS[name].help)
    wanted = [_row(parameter) for parameter in commands.load(name).PARAMETERS]
    table = section.partition("**JSON:**")[0]
    assert [line for line in table.splitlines() if line.startswith("| `")] == wanted
    assert "**JSON:** " in section or "**JSON:**\n" in section


@pytest.mark.parametrize("line", re.findall(r"^torpor .+$", PAGE, re.MULTILINE))
def test_an_example_is_a_command_line(line: str) -> None:
    call = parse.parse(shlex.split(line)[1:], commands.COMMANDS, lambda name: commands.load(name).PARAMETERS)
    assert call is not None, line


def test_common_options() -> None:
    for parameter in COMMON:
        assert _row(parameter) in SECTIONS["Common options"]


def test_exit_codes() -> None:
    rows = re.findall(r"^\| (\d+) \| (?:`(\w+)`|-) \| .+ \|$", SECTIONS["Exit codes"], re.MULTILINE)
    documented = {int(code): name for code, name in rows}
    classes = {cls.exit_code: name for name, cls in all_errors().items() if "exit_code" in vars(cls)}
    assert documented == {**classes, 0: "", EXIT_PROBLEMS: "", EXIT_PIPE: ""}


def test_variables() -> None:
    source = "".join(path.read_text() for path in (Path(parse.__file__).parents[1]).rglob("*.py"))
    used = set(re.findall(r"environ(?:ment)?(?:\.get\(|\[)\"(TORPOR_\w+)\"", source)) | set(
        re.findall(r"env\.get\(\"(TORPOR_\w+)\"", source)
    )
    assert len(used) > 4
    assert {name for name in used if f"`{name}`" not in SECTIONS["Common options"]} == set()


def test_json_fields(cli: Cli, workspace: Path, tmp_path: Path) -> None:
    """What commands really answer is what the page says, field by field. Of `bench` see tests/cli/test_bench.py."""
    told = {"snapshot --dry-run": cli.json("snapshot", workspace, "--dry-run"), "snapshot": cli.json("snapshot", workspace)}
    (workspace / "new").write_text("x")
    cli.json("snapshot", workspace)
    told |= {
        "restore": cli.json("restore", "latest", tmp_path / "back"),
        "verify": cli.json("verify", "latest"),
        "snapshots": cli.json("snapshots"),
        "show": cli.json("show", "latest", "--files", "--long"),
        "diff": cli.json("diff", told["snapshot"]["snapshot_id"], "latest"),
        "copy": cli.json("copy", "latest", "--to", tmp_path / "copy"),
        "rm": cli.json("rm", "latest", "--dry-run"),
        "retain": cli.json("retain", "--dry-run"),
        "prune": cli.json("prune", "--dry-run"),
        "costs": cli.json("costs"),
        "doctor": cli.json("doctor"),
        "keys show": cli.json("keys", "show"),
        "keys export": cli.json("keys", "export", "--file", tmp_path / "keys.json"),
        "keys import": cli.json("keys", "import", "--file", tmp_path / "keys.json"),
    }
    told["keys confirm"] = cli.json("keys", "confirm", typed=told["keys show"]["recovery_key"] + "\n")
    manifest = set(told["snapshots"]["snapshots"][0]) | set(told["snapshot"]) | {"private"}
    for name, answer in told.items():
        wanting = undocumented(name, answer)
        if name == "show":  # the manifest's own are in docs/format.md
            page = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
            wanting = {field for field in wanting - manifest if not re.search(rf"\b{field}\b", page)}
        assert wanting == set(), name
