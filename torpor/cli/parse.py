"""Reads ordinary command lines without typer, by the same data. Whatever is not plain is left to typer: help, mistakes, completion.

Both must agree where this one answers; tests/cli/test_parse.py holds them to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torpor.cli.parameters import COMMON, Parameter, Value


class Call(NamedTuple):
    """A command to run: its name, the options common to all commands, its own."""

    command: str
    common: dict[str, Value]
    values: dict[str, Value]


class _Odd(Exception):
    """Not a plain command line."""


def parse(words: Sequence[str], commands: Mapping[str, object], parameters_of: Callable[[str], Sequence[Parameter]]) -> Call | None:
    """The call that a command line asks for; None if typer has to look at it. `commands`: all names, some of two words."""
    try:
        common, rest = _before(list(words))
        name = rest[0] if rest else ""
        if name not in commands and len(rest) > 1:
            name = " ".join(rest[:2])
        if name not in commands:
            return None
        own = parameters_of(name)
        found = _options(rest[len(name.split()) :], (*own, *COMMON))
    except _Odd:
        return None
    values = {parameter.key: found.get(parameter.key, parameter.missing()) for parameter in own}
    for parameter in COMMON:
        common[parameter.key] = found.get(parameter.key, common.get(parameter.key, parameter.missing()))
    return Call(name, common, values)


def _before(words: list[str]) -> tuple[dict[str, Value], list[str]]:
    """Common options in front of the command's name, and the rest."""
    found: dict[str, Value] = {}
    known = {flag: parameter for parameter in COMMON for flag in parameter.flags}
    while words and words[0].startswith("-"):
        _option(words, known, found)
    return found, words


def _options(words: list[str], parameters: Sequence[Parameter]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    known = {flag: parameter for parameter in parameters for flag in parameter.flags}
    plain: list[str] = []
    while words:
        if words[0] == "--":
            plain += words[1:]
            break
        if words[0].startswith("-") and words[0] != "-":
            _option(words, known, found)
        else:
            plain.append(words.pop(0))
    if not all(word.strip() for word in plain):  # a variable that is not set: it must not count as not given
        raise _Odd
    for parameter in parameters:
        if parameter.flags:
            continue
        if parameter.many:
            found[parameter.key], plain = plain, []
        elif plain:
            found[parameter.key] = plain.pop(0)
        if parameter.required and not found.get(parameter.key):
            raise _Odd
    if plain:
        raise _Odd
    return found


def _option(words: list[str], known: Mapping[str, Parameter], found: dict[str, Value]) -> None:
    """Take one option, with its value, from the front of `words`."""
    word = words.pop(0)
    name, equals, value = word.partition("=")
    parameter = known.get(name)
    if parameter is None or (equals and not name.startswith("--")):
        raise _Odd
    if parameter.kind == "flag":
        if equals:
            raise _Odd
        found[parameter.key] = True
        return
    if not equals:
        if not words:
            raise _Odd
        value = words.pop(0)
    if (parameter.choices and value not in parameter.choices) or not (
        _number(parameter, value) if parameter.kind == "number" else value.strip()
    ):
        raise _Odd
    if parameter.many:
        earlier = found.get(parameter.key)
        found[parameter.key] = [*(earlier if isinstance(earlier, list) else ()), value]
    else:
        found[parameter.key] = int(value) if parameter.kind == "number" else value


def _number(parameter: Parameter, text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19 and int(text) >= parameter.least
