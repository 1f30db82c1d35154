"""Every command: name → module, and what `torpor --help` says of it. A module is imported when its command runs or shows its help.

A module has `PARAMETERS` (cli/parameters.py) and `run(session, …)`, whose keywords are the parameters' keys; it returns the exit code.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple


class Row(NamedTuple):
    module: str
    help: str


COMMANDS = {
    "snapshot": Row("torpor.cli.snapshot", "Save folders, or a machine, as a new snapshot."),
    "restore": Row("torpor.cli.restore", "Bring a snapshot back, to a folder or to a machine."),
    "hibernate": Row("torpor.cli.hibernate", "Snapshot a machine, prove the snapshot, destroy the machine."),
    "wake": Row("torpor.cli.wake", "Make a machine and restore a snapshot on it."),
    "replicate": Row("torpor.cli.replicate", "Wake one snapshot on several machines at once."),
    "offers": Row("torpor.cli.offers", "List machines that could be rented now."),
    "sweep": Row("torpor.cli.sweep", "End machines that were rented and never handed over."),
    "trust": Row("torpor.cli.trust", "Believe the host key of an SSH host."),
    "snapshots": Row("torpor.cli.snapshots", "List the snapshots."),
    "show": Row("torpor.cli.show", "Show one snapshot: sizes, problems, receipts, files."),
    "diff": Row("torpor.cli.diff", "Show what differs between two snapshots."),
    "verify": Row("torpor.cli.verify", "Prove that snapshots can be restored."),
    "copy": Row("torpor.cli.copy", "Copy snapshots to another store."),
    "rm": Row("torpor.cli.rm", "Remove snapshots."),
    "retain": Row("torpor.cli.retain", "Remove snapshots that have grown old."),
    "prune": Row("torpor.cli.prune", "Delete what no snapshot needs any more."),
    "costs": Row("torpor.cli.costs", "Estimate what the repository costs, here and elsewhere."),
    "keys show": Row("torpor.cli.keys_show", "Print the recovery key."),
    "keys confirm": Row("torpor.cli.keys_confirm", "Type the recovery key in, to show that it was written down."),
    "keys export": Row("torpor.cli.keys_export", "Write the keys to a file."),
    "keys import": Row("torpor.cli.keys_import", "Get the keys of a repository onto this computer."),
    "doctor": Row("torpor.cli.doctor", "Check store, keys and this computer."),
    "bench": Row("torpor.cli.bench", "Measure this machine, and find what holds it back."),
    "demo": Row("torpor.cli.demo", "Hibernate and wake a made-up workspace on this computer."),
}
GROUPS = {"keys": "Show, confirm, export and import the keys of a repository."}


def load(command: str) -> Any:
    """The module of a command."""
    return import_module(COMMANDS[command].module)
