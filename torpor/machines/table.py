"""Every kind of machine: scheme → module and class. One row and one file each; nothing is imported before it is asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from torpor.clock import SYSTEM, Clock
from torpor.errors import UsageError
from torpor.machines.base import Machine


class Row(NamedTuple):
    """`machine` is a class of `module`, called with a name, the folder of this computer's machines, and a clock."""

    module: str
    machine: str


ROWS = {
    "local": Row("torpor.machines.local", "LocalMachine"),
}


def is_machine(text: str) -> bool:
    """Whether this names a machine rather than a path."""
    return text.partition(":")[0] in ROWS and ":" in text


def open_machine(address: str, folder: Path, clock: Clock = SYSTEM) -> Machine:
    """The machine at `scheme:name`. `folder` is where this computer keeps its local machines. Raises `UsageError`."""
    scheme, _, name = address.partition(":")
    if scheme not in ROWS or not name:
        raise UsageError(f"{address!r} is no machine.", remedy=f"Name one as {', '.join(f'{row}:NAME' for row in sorted(ROWS))}.")
    row = ROWS[scheme]
    machine: Machine = getattr(import_module(row.module), row.machine)(name, folder, clock)
    return machine
