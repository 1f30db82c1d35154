"""Two readers of one table: the quick one must say what typer says, or nothing."""

from __future__ import annotations

import inspect
from typing import get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torpor.cli import app, commands, parse
from torpor.cli.parameters import COMMON, Parameter
from torpor.cli.parse import Call


def _parameters(name: str) -> tuple[Parameter, ...]:
    found: tuple[Parameter, ...] = commands.load(name).PARAMETERS
    return found


def _quick(words: list[str]) -> Call | None:
    return parse.parse(words, commands.COMMANDS, _parameters)


def _slow(words: list[str]) -> Call | None:
    calls: list[Call] = []

    def run(call: Call) -> int:
        calls.append(call)
        return 0

    app.main(words, run)
    return calls[0] if calls else None


WORDS = st.sampled_from(
    [
        "",
        " ",
        "a",
        "-",
        "x=y",
        "12",
        "007",
        "-5",
        "0",
        "9" * 30,
        "9" * 5000,
        "--",
        "é",
        "\udcff",
        "raw",
        "on",
        "--name",
        "-v",
        "-qv",
        "local:box",
        "latest",
    ]
)


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """A command line, more or less."""
    name = draw(st.sampled_from(sorted(commands.COMMANDS)))
    own = [*_parameters(name), *COMMON]

    def option(parameter: Parameter) -> list[str]:
        flag = draw(st.sampled_from(parameter.flags))
        if parameter.kind == "flag":
            return [flag]
        value = draw(st.one_of(WORDS, st.sampled_from(parameter.choices) if parameter.choices else WORDS))
        return draw(st.sampled_from([[flag, value], [f"{flag}={value}"], [flag]]))

    flagged = [parameter for parameter in own if parameter.flags]
    words = draw(st.lists(st.one_of(st.sampled_from(flagged).map(option), WORDS.map(lambda word: [word])), max_size=6))
    before = draw(st.lists(st.sampled_from(COMMON).map(option), max_size=2))
    return [word for group in (*before, name.split(), *words) for word in group]


@settings(max_examples=300, deadline=None)
@given(lines())
def test_both_readers_agree(words: list[str]) -> None:
    quick = _quick(words)
    if quick is not None:
        assert _slow(words) == quick


@pytest.mark.parametrize(
    "words",
    [
        ["snapshot", "a", "b", "--name", "n", "--exclude", "x", "--exclude=y", "--level", "3", "--json", "-v"],
        ["--json", "--storage", "/s", "snapshot", "a", "--codec", "raw", "--", "-b"],
        ["restore", "latest", "/t", "--map", "a=b", "--map", "c=d", "--owners", "none"],
        ["restore", "latest", "--map", "a=b"],
        ["hibernate", "local:x", "--accept", "all"],
        ["wake", "latest", "--on", "local:y"],
        ["verify", "--all", "--full"],
        ["rm", "a", "b", "--yes"],
        ["prune", "--grace", "0"],
        ["keys", "show"],
        ["keys", "import", "--file", "f"],
        ["doctor"],
        ["demo"],
        ["diff", "a", "b"],
    ],
)
def test_ordinary_lines_are_read_without_typer(words: list[str]) -> None:
    quick = _quick(words)
    assert quick is not None
    assert _slow(words) == quick


@pytest.mark.parametrize(
    "words", [[], ["-h"], ["snapshot"], ["snapshot", "a", "--help"], ["nothing"], ["keys"], ["keys", "sho"], ["--version"]]
)
def test_the_rest_is_left_to_typer(words: list[str]) -> None:
    assert _quick(words) is None


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_a_table_fits_its_function(name: str) -> None:
    run = commands.load(name).run
    found = inspect.signature(run).parameters
    rest = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in found.values())  # options that commands share, read by one function
    keywords = [key for key, one in found.items() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    keys = [parameter.key for parameter in _parameters(name)]
    assert keywords[0] == "session"
    assert keywords[1:] == [key for key in keys if not rest or key in keywords]
    assert (run.__doc__ or "").strip()
    assert commands.COMMANDS[name].help.endswith(".")
    for parameter in _parameters(name):
        if parameter.key not in keywords:
            continue
        hint = str(inspect.signature(run).parameters[parameter.key].annotation)
        wanted = {"flag": "bool", "number": "int | None", "text": "list[str]" if parameter.many else "str"}[parameter.kind]
        if parameter.choices:
            wanted = ""  # a Literal of jobs.py, or a text
        assert hint.startswith(wanted), f"{name}: {parameter.key}: {hint}"
        optional = not parameter.required and not parameter.many and parameter.kind != "flag"
        assert hint.endswith("| None") is optional, f"{name}: {parameter.key}: {hint}"
        assert parameter.help.endswith("."), parameter.help
        assert not set("[]") & set(parameter.help), "typer's help would read it as markup"


def test_no_two_parameters_share_a_name() -> None:
    for name in commands.COMMANDS:
        own = [*_parameters(name), *COMMON]
        for names in ([parameter.key for parameter in own], [flag for parameter in own for flag in parameter.flags]):
            assert len(names) == len(set(names)), name
    assert get_type_hints(Parameter.missing)["return"]


@pytest.mark.parametrize(
    "words",
    [
        ["hibernate", "local:c", "--before", ""],
        ["--storage", "", "rm", "latest"],
        ["rm", "latest", "--storage="],
        ["wake", "latest", "--on", " ", "--gpu", "RTX 4090"],
        ["snapshot", ""],
        ["snapshot", "a", ""],
        ["offers", "--gpu", ""],
        ["hibernate", "local:c", "--exclude", "a", "--exclude", ""],
        ["hibernate", "local:c", "--rounds", "0"],
    ],
)
def test_a_variable_that_is_not_set_is_a_mistake(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Not the same as an option that was not given: that would act on another store, or skip what was to be run first."""
    assert _quick(words) is None
    assert _slow(words) is None
    assert app.main(words, lambda call: 0) == 2
    said = capsys.readouterr().err
    assert "is empty" in said or "0 is not in the range" in said
