"""Standard streams of a command's process: those that were closed lead nowhere, and what can't be told stops no work."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from torpor.errors import NoSpace


class Told(io.TextIOWrapper):
    """Standard error on a full disk, or with nobody left to read it: words are lost, and the job that they are about goes on."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def settle() -> None:
    """Open what was closed, so that no file of a job gets its number; then make standard error one that never fails."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            fd = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, open(fd, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
    err = sys.stderr
    if isinstance(err, io.TextIOWrapper):
        encoding = err.encoding
        sys.stderr = Told(err.detach(), encoding=encoding, errors="backslashreplace", line_buffering=True)


def give_up_output() -> None:
    """Nothing more can be written to standard output: what is left goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def output() -> Iterator[None]:
    """Round what writes to standard output. Raises `NoSpace` where it can't be written to."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up_output()
        raise NoSpace(
            f"What the command found could not be written to standard output: {error.strerror or error}.",
            safe="The command itself is done.",
            remedy="Ask for it again where there is room: `torpor snapshots`, `torpor show latest`.",
        ) from None
