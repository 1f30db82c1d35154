"""What a command takes, as data with two readers: `parse` reads ordinary command lines in no time, `app` gives the rest to typer.

A typer function's signature would say the same, but only once typer is imported: a fifth of the way to a snapshot's first byte
(docs/decisions/0003-start-up.md).
"""

from __future__ import annotations

from typing import Literal

Kind = Literal["text", "number", "flag"]
Value = str | int | bool | list[str] | None


class Parameter:
    """One argument or option. `key`: the name of the command's keyword; `flags`: as typed, none of an argument.

    `many`: a list, of a repeated option or of all words that are left. An option that was not given is `None`, an empty list, or
    False; a missing argument is `None` too, unless it is `required`. A blank text is a mistake. `least`: the smallest number.
    """

    __slots__ = ("choices", "flags", "help", "key", "kind", "least", "many", "metavar", "panel", "required")

    def __init__(
        self, key: str, kind: Kind, flags: tuple[str, ...], metavar: str, help: str,  # noqa: A002 - typer's word
        *, many: bool = False, required: bool = False, choices: tuple[str, ...] = (), least: int = 0,
    ) -> None:  # fmt: skip
        self.key = key
        self.kind: Kind = kind
        self.flags = flags
        self.metavar = metavar
        self.help = help
        self.many = many
        self.required = required
        self.choices = choices
        self.least = least
        self.panel = ""  # the heading that help shows it under

    def missing(self) -> Value:
        """The value of a parameter that was not given."""
        if self.kind == "flag":
            return False
        return [] if self.many else None


def argument(metavar: str, help: str, *, many: bool = False, required: bool = True) -> Parameter:  # noqa: A002
    """A word by its place; `many` takes all that are left. The keyword is the metavar in small letters."""
    return Parameter(metavar.lower(), "text", (), metavar, help, many=many, required=required)


def option(flag: str, metavar: str, help: str, *, many: bool = False) -> Parameter:  # noqa: A002
    """An option with a text for its value; the keyword is the flag without dashes."""
    return Parameter(_key(flag), "text", (flag,), metavar, help, many=many)


def choice(flag: str, choices: tuple[str, ...], help: str) -> Parameter:  # noqa: A002
    return Parameter(_key(flag), "text", (flag,), "|".join(choices), help, choices=choices)


def number(flag: str, help: str, *, least: int = 0) -> Parameter:  # noqa: A002
    """An option with a whole number, zero or more unless told."""
    return Parameter(_key(flag), "number", (flag,), "N", help, least=least)


def flag(name: str, help: str, *short: str) -> Parameter:  # noqa: A002
    return Parameter(_key(name), "flag", (name, *short), "", help)


def grouped(panel: str, *parameters: Parameter) -> tuple[Parameter, ...]:
    """These under a heading of their own in help."""
    for parameter in parameters:
        parameter.panel = panel
    return parameters


def _key(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


# Taken by every command, before its name and after it.
COMMON = (
    option("--storage", "URL", "Where the repository is: a URL, or a folder. Else TORPOR_STORAGE, else a folder below TORPOR_HOME."),
    option("--home", "PATH", "Keys and state of this computer. Else TORPOR_HOME, else ~/.torpor."),
    flag("--json", "Print the result as one JSON object, the last line of standard output; everything else goes to standard error."),
    flag("--verbose", "Say more; show what led to an unforeseen error.", "-v"),
    flag("--quiet", "Say nothing but the result and warnings.", "-q"),
    flag("--no-progress", "Show no progress."),
)
