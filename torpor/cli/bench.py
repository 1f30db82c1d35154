"""torpor bench: what this machine can do, and what holds it back."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from torpor.cli import amounts, given
from torpor.cli.parameters import option
from torpor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torpor.bench.run import Result
    from torpor.cli.session import Session
    from torpor.storage.base import Store

PARAMETERS = (
    option("--size", "SIZE", "Bytes of the workspace that is made up: 256M unless told."),
    option("--folder", "PATH", "Where to measure, in a folder of its own that is removed afterwards: the temporary folder unless told."),
    option("--save", "FILE", "Write the result as JSON, with machine, versions and date."),
    option("--report", "FILE", "Write a page with charts: a name that ends in .md or .html."),
)


def run(session: Session, size: str | None, folder: str | None, save: str | None, report: str | None) -> int:
    """Each figure stands beside what limits it here, and the last line says what the bottleneck is.

    Keys and repository are made for the run and removed after it. A store is only measured if --storage or TORPOR_STORAGE names one.
    """
    import tempfile

    from torpor.bench import report as page
    from torpor.bench import rows
    from torpor.bench.run import SIZE, SIZE_MIN
    from torpor.bench.run import run as measure

    wanted = given.size(size, "--size") if size else SIZE
    if wanted < SIZE_MIN:
        raise UsageError(f"--size {size} is too little.", remedy=f"Give {SIZE_MIN >> 20}M or more.")
    if report:
        page.kind_of(report)
    for path in filter(None, (save, report)):
        _check_place(path)
    result = measure(folder or tempfile.gettempdir(), wanted, _store(session), _progress(session))
    for line in rows.table(result.rows):
        session.say(line)
    session.say(f"{amounts.seconds(result.seconds)}, at most {amounts.size(result.peak_bytes)} of memory, in {result.folder}")
    session.say(result.advice.text)
    if save:
        _written(session, save, lambda: _save(result, save))
    if report:
        _written(session, report, lambda: page.write(result, report))
    session.answer(result.as_dict())
    return 0


def _progress(session: Session) -> Callable[[str], None]:
    def say(text: str) -> None:
        if session.progress:
            session.note(f"measuring: {text}")

    return say


def _store(session: Session) -> Store | None:
    """The store, if somebody named one."""
    if session.default_storage:
        return None
    from torpor.storage.table import open_store

    return open_store(session.settings.storage, session.settings.access)


def _check_place(path: str) -> None:
    """Told before a minute of measuring, not after it."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise UsageError(f"{path} can't be written: there is no folder {folder} to write to.", safe="Nothing was measured.")


def _save(result: Result, path: str) -> list[str]:
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(result.as_dict(), indent=1) + "\n")
    return [path]


def _written(session: Session, path: str, write: Callable[[], list[str]]) -> None:
    try:
        for name in write():
            session.note(f"wrote {name}")
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror or error}.", remedy="Give another file.") from error
