"""Bars on a terminal, one a stage, by rich: the only module of the command line that imports it before typer's help does."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from torpor.cli.progress import Stage


class Bars:
    """A live display on standard error; it goes away when it is closed."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[amount]}", justify="right"),
            TextColumn("{task.fields[pace]}", style="dim"),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks: dict[str, TaskID] = {}

        self._progress.start()

    def close(self) -> None:
        self._progress.stop()

    def show(self, stages: Iterable[Stage], texts: Iterable[str]) -> None:
        """Bring the bars to where the stages are, and print `texts` above them."""
        for text in texts:
            self._console.print(Text(text))
        for stage in stages:
            task = self._tasks.get(stage.name)
            if task is None:
                task = self._tasks[stage.name] = self._progress.add_task(stage.name, total=None, amount="", pace="")
            done = stage.done if stage.done or not stage.ended else 1
            total = done if stage.ended else stage.total or None
            self._progress.update(task, completed=done, total=total, amount=stage.amount(), pace=stage.pace())
