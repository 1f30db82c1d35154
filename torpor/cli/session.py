"""What every command shares: settings, the repository, where words go, errors and exit codes.

Standard output is for results, standard error for everything else. With `--json`, standard output gets one JSON object, last.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from io import TextIOWrapper
from typing import TYPE_CHECKING

from torpor.cli import commands, stop
from torpor.cli.parse import Call, parse
from torpor.cli.streams import give_up_output, output
from torpor.errors import Interrupted, TorporError, UsageError

if TYPE_CHECKING:
    from torpor.cli.parameters import Value
    from torpor.control.repository import Repository
    from torpor.events import Listener
    from torpor.settings import Settings

EXIT_UNFORESEEN = 1
EXIT_PIPE = 141  # 128 + SIGPIPE, as a shell has it


class Session:
    """One run of one command. `common`: the options that all commands take, by key."""

    def __init__(self, common: Mapping[str, Value]) -> None:
        self.storage = _text(common["storage"])
        self.home = _text(common["home"])
        self.json = bool(common["json"])
        self.verbose = bool(common["verbose"]) or os.environ.get("TORPOR_DEBUG") == "1"
        self.quiet = bool(common["quiet"])
        self.progress = not common["no_progress"]
        self._answered = False

    @cached_property
    def environment(self) -> dict[str, str]:
        """This process's environment, with `--home` and `--storage` in it."""
        found = dict(os.environ)
        if self.home:
            found["TORPOR_HOME"] = self.home
        if self.storage:
            found["TORPOR_STORAGE"] = self.storage
        return found

    @cached_property
    def settings(self) -> Settings:
        from torpor.settings import load

        return load(self.environment)

    @property
    def default_storage(self) -> bool:
        """Whether nobody said where the repository is, so that it is a folder on this very disk."""
        return not self.environment.get("TORPOR_STORAGE") and self.environment.get("STORAGE_PROVIDER", "") in ("", "local")

    def repository(self, *, create: bool = False, encryption: str | None = None) -> Repository:
        """Open the repository; with `create`, make it in an empty store."""
        from torpor.control.repository import ENCRYPTED, open_repository

        return open_repository(self.settings, create=create, encryption=encryption or ENCRYPTED, note=self.warn)

    def say(self, text: str) -> None:
        """A line of the result, for people."""
        with output():
            print(text, file=sys.stderr if self.json else sys.stdout)

    def note(self, text: str) -> None:
        """Something on the way; `-q` drops it."""
        if not self.quiet:
            print(text, file=sys.stderr)

    def detail(self, text: str) -> None:
        """Something that only `-v` shows."""
        if self.verbose:
            print(text, file=sys.stderr)

    def warn(self, text: str) -> None:
        print(f"warning: {text}", file=sys.stderr)

    def answer(self, result: Mapping[str, object]) -> None:
        """The result for programs: with `--json`, the last line of standard output."""
        if self.json:
            self._answered = True
            sys.stderr.flush()
            with output():
                print(json.dumps(result))

    def answer_with(self, name: str, items: Iterable[Mapping[str, object]], rest: Callable[[], Mapping[str, object]]) -> None:
        """As `answer`, of an object with a long list under `name`, which is never held in memory; `rest` is asked for afterwards."""
        if not self.json:
            for _ in items:
                continue
            return
        out = sys.stdout
        self._answered = True
        out.write("{" + json.dumps(name) + ": [")
        for number, item in enumerate(items):
            out.write((", " if number else "") + json.dumps(item))
        out.write("], " + json.dumps(rest())[1:] + "\n")

    def fail(self, error: TorporError) -> int:
        """Show an error: what happened, what is safe, what to do. Its exit code is returned."""
        print(f"torpor: {error.what}", file=sys.stderr)
        for text in (error.safe, error.remedy):
            if text:
                print(f"  {text}", file=sys.stderr)
        if not self._answered:
            self.answer(error.as_dict())
        return error.exit_code

    @contextmanager
    def listener(self) -> Iterator[Listener]:
        """Shows the events of jobs while the block runs."""
        from torpor.cli.progress import Display

        display = Display(self)
        try:
            yield display.event
        finally:
            display.close()


def _text(value: Value) -> str:
    return value if isinstance(value, str) else ""


def main(words: Sequence[str]) -> int:
    """Parse and run a command line. Installs the handlers of Ctrl-C and SIGTERM."""
    stop.install()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # None where it was closed
            stream.reconfigure(errors="backslashreplace")
    call = None
    try:
        if "_TORPOR_COMPLETE" not in os.environ:
            call = parse(words, commands.COMMANDS, lambda name: commands.load(name).PARAMETERS)
        if call is None:
            from torpor.cli import app

            return app.main(words, run)
    except Interrupted as error:
        return error.exit_code
    return run(call)


def run(call: Call) -> int:
    """Run one command to its exit code: every way it can end is met here."""
    session = Session(call.common)
    try:
        return _guard(session, lambda: _run(session, call))
    except BrokenPipeError:
        give_up_output()  # nobody reads what is left
        return EXIT_PIPE


def _run(session: Session, call: Call) -> int:
    code: int = commands.load(call.command).run(session, **call.values)
    with output():
        sys.stdout.flush()
    return code


def _guard(session: Session, command: Callable[[], int]) -> int:
    try:
        return command()
    except TorporError as error:
        if session.verbose:
            _traceback()
        return session.fail(error)
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        return session.fail(Interrupted("The command was stopped."))
    except UnicodeEncodeError:
        return session.fail(
            UsageError(
                "A name, a label or a pattern that was given is no UTF-8.",
                safe="Nothing was changed.",
                remedy="Write it in UTF-8; files of other names are matched by ? and *.",
            )
        )
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "new thread" not in str(error):
            return _unforeseen(session, error)
        return session.fail(
            TorporError(
                "The system gives this process no more memory.",
                safe="What was stored and committed before is untouched.",
                remedy="Raise its limit (ulimit -v, a container's memory), or let it use less: --memory 128M.",
            )
        )
    except FileNotFoundError as error:
        if error.filename is None and not _has_folder():
            return session.fail(UsageError("The current folder is gone.", safe="Nothing was done.", remedy="Change to one that is there."))
        return _unforeseen(session, error)
    except Exception as error:  # noqa: BLE001 - the last place where a defect can be told to people
        return _unforeseen(session, error)


def _unforeseen(session: Session, error: Exception) -> int:
    if session.verbose:
        _traceback()
    remedy = "" if session.verbose else "This is a defect of torpor. Run it again with -v to see where."
    return session.fail(TorporError(f"Unforeseen: {type(error).__name__}: {error}", remedy=remedy))


def _has_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _traceback() -> None:
    import traceback

    traceback.print_exc()
