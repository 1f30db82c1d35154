"""Help and shell completion."""

from __future__ import annotations

import pytest

from tests.cli.door import Cli
from torpor.cli import commands
from torpor.cli.parameters import COMMON


def _plain(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_help_of_each_command(cli: Cli, name: str) -> None:
    cli.extra["COLUMNS"] = "200"
    done = cli.ok(*name.split(), "--help" if len(name) % 2 else "-h")
    shown = _plain(done.out)
    assert f"Usage: torpor {name}" in shown
    assert commands.COMMANDS[name].help in shown
    for parameter in (*commands.load(name).PARAMETERS, *COMMON):
        for word in parameter.flags or (parameter.metavar,):
            assert word in done.out
        assert parameter.help in shown
    assert done.err == ""


def test_help_of_all(cli: Cli) -> None:
    cli.extra["COLUMNS"] = "200"
    done = cli.ok("--help")
    for name, row in commands.COMMANDS.items():
        assert " " in name or row.help in _plain(done.out)
    assert "Show, confirm, export and import the keys" in done.out
    assert cli.ok("--version").out == cli.ok("--json", "--version").out == "torpor 0.1.0\n"
    assert not cli.home.exists()


@pytest.mark.parametrize(("shell", "word"), [("bash", "complete -o default"), ("zsh", "compdef"), ("fish", "complete --command torpor")])
def test_completion_scripts(cli: Cli, shell: str, word: str) -> None:
    cli.extra |= {"_TORPOR_COMPLETE": f"source_{shell}"}
    assert word in cli.run().out
    cli.extra = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert word in cli.ok("--show-completion", shell).out


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("torpor sna", {"snapshot", "snapshots"}),
        ("torpor keys ", {"show", "confirm", "export", "import"}),
        ("torpor snapshot --no-de", {"--no-default-excludes"}),
        ("torpor restore --own", {"--owners"}),
    ],
)
def test_completion_of_words(cli: Cli, typed: str, found: set[str]) -> None:
    cli.extra |= {"_TORPOR_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    assert set(cli.run().out.split()) == found
