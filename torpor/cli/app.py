"""The same commands through typer: help, messages about mistakes, shell completion. Imported only where `parse` passes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import typer
from typer._click import Command, Context
from typer._click.exceptions import ClickException
from typer.core import TyperGroup
from typer.main import get_command

from torpor import __version__
from torpor.cli import commands
from torpor.cli.parameters import COMMON, Parameter, Value
from torpor.cli.parse import Call
from torpor.cli.session import Session
from torpor.errors import Interrupted, UsageError

NAME = "torpor"
DESCRIPTION = "Puts rented GPU machines to sleep in object storage and wakes them somewhere else."
_SETTINGS = {"help_option_names": ["-h", "--help"]}

Run = Callable[[Call], int]


def main(words: Sequence[str], run: Run) -> int:
    """Parse a command line with typer and run what it asks for; the exit code is returned."""
    if not words:
        build(run)(["--help"], prog_name=NAME, standalone_mode=False)
        return UsageError.exit_code
    try:
        code = build(run)(list(words), prog_name=NAME, standalone_mode=False)
    except ClickException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else NAME
        return _failed(words, UsageError(error.format_message(), remedy=f"`{path} --help` shows how it is used."))
    except (typer.Abort, EOFError):
        return _failed(words, Interrupted("Nothing was typed in.", safe="Nothing was changed."))
    return code if isinstance(code, int) else 0


def _failed(words: Sequence[str], error: UsageError | Interrupted) -> int:
    common = {parameter.key: parameter.missing() for parameter in COMMON} | {"json": "--json" in words}
    return Session(common).fail(error)


def build(run: Run) -> Command:
    """The typer application. A command is a name and a line of help until it is the one that was typed."""
    app = typer.Typer(name=NAME, help=DESCRIPTION, cls=_group("", run), context_settings=_SETTINGS)
    groups = {"": app}
    for name, text in commands.GROUPS.items():
        groups[name] = typer.Typer(name=name, help=text, cls=_group(f"{name} ", run))
    for name, row in commands.COMMANDS.items():
        above, _, last = name.rpartition(" ")
        groups[above].command(last, help=row.help)(_stub)
    for name in commands.GROUPS:
        groups[name].callback()(_function(name, COMMON, _more_common))
        app.add_typer(groups[name])
    app.callback()(_function("", COMMON, _common))
    return get_command(app)


def _stub() -> None:
    """Stands for a command in lists."""


def _group(prefix: str, run: Run) -> type[TyperGroup]:
    class Lazy(TyperGroup):
        """Puts the real command in the stub's place once it is asked for."""

        def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
            name, command, rest = super().resolve_command(ctx, args)
            if command is not None and prefix + (name or "") in commands.COMMANDS:
                command = _command(prefix + (name or ""), run)
            return name, command, rest

    return Lazy


def _command(name: str, run: Run) -> Command:
    """The real command: its module is imported here."""
    module = commands.load(name)

    def call(ctx: typer.Context, values: dict[str, Value]) -> int:
        before: dict[str, Value] = ctx.obj or {}
        common = {p.key: before.get(p.key, p.missing()) for p in COMMON}
        common |= {key: value for key in common if (value := values.pop(key)) not in (None, False)}
        return run(Call(name, common, values))

    app = typer.Typer(add_completion=False, context_settings=_SETTINGS)
    more = (inspect.getdoc(module.run) or "").split("\n\n")
    text = "\n\n".join((commands.COMMANDS[name].help, *(part.replace("\n", " ") for part in more)))
    app.command(name.rpartition(" ")[2], help=text)(_function(name, (*module.PARAMETERS, *COMMON), call))
    return get_command(app)


def _common(ctx: typer.Context, values: dict[str, Value]) -> None:
    """Options in front of a command's name, kept for it."""
    values.pop("version")
    ctx.obj = values


def _more_common(ctx: typer.Context, values: dict[str, Value]) -> None:
    """Options between a group's name and a command's."""
    ctx.obj = {**(ctx.obj or {}), **{key: value for key, value in values.items() if value not in (None, False)}}


def _function(name: str, parameters: Sequence[Parameter], call: Callable[[typer.Context, dict[str, Value]], Any]) -> Callable[..., Any]:
    """A function with the signature that typer reads."""

    def function(ctx: typer.Context, **values: Value) -> Any:
        for p in parameters:
            _refuse_blank(p, values[p.key])
        given = {p.key: p.missing() if values[p.key] is None else values[p.key] for p in parameters}
        return call(ctx, given | ({} if name else {"version": values["version"]}))

    known = {"ctx": inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)}
    for parameter in parameters:
        known[parameter.key] = _typed(parameter)
    if not name:
        option = typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
        known["version"] = inspect.Parameter("version", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option])
    function.__signature__ = inspect.Signature(list(known.values()))  # type: ignore[attr-defined]
    function.__annotations__ = {key: value.annotation for key, value in known.items()}
    function.__doc__ = DESCRIPTION
    return function


def _refuse_blank(parameter: Parameter, value: Value) -> None:
    """A text that is blank is a shell's variable that is not set: taken for an option that was not given, it would do something else."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str) and not one.strip():
            what = parameter.flags[0] if parameter.flags else parameter.metavar
            raise ClickException(f"{what} was given, and is empty: perhaps a variable that is not set. Nothing was done.")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"torpor {__version__}")
        raise typer.Exit


def _typed(parameter: Parameter) -> inspect.Parameter:
    """A parameter as typer has it."""
    kinds: Mapping[str, Any] = {"text": str, "number": int, "flag": bool}
    kind: Any = Literal[parameter.choices] if parameter.choices else kinds[parameter.kind]
    kind = list[kind] if parameter.many else kind
    required = parameter.required and not parameter.flags
    info: Any
    if parameter.flags:
        least = parameter.least if parameter.kind == "number" else None
        panel = "Common options" if parameter in COMMON else parameter.panel or None
        metavar = parameter.metavar or None
        info = typer.Option(*parameter.flags, metavar=metavar, help=parameter.help, min=least, show_default=False, rich_help_panel=panel)
    else:
        info = typer.Argument(metavar=parameter.metavar + "..." * parameter.many, help=parameter.help, show_default=False)
    given = kind if required or parameter.kind == "flag" else kind | None
    default = inspect.Parameter.empty if required else False if parameter.kind == "flag" else None
    return inspect.Parameter(parameter.key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[given, info])
