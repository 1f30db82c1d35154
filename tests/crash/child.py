"""A process that kills itself (SIGKILL) at a counted operation of a snapshot or a restore. Its job comes as JSON in the argument.

    {"do": "take" | "restore" | "serve", "lab": folder, "at": 0 …, "after": bool, "root" | "target": path, "mode": …}

Counted: each request of the host and of the control side to the store, each entry of the journal, the record, each finished file, each
step of the end of a restore. `at` 0 never kills. It prints the operations that it did.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torpor.hibernate.packer
import torpor.hibernate.run
import torpor.wake.batch
import torpor.wake.run
from tests.engine.lab import Lab
from torpor.jobs import Grant, Granter
from torpor.remote import serve
from torpor.storage.local import LocalStore
from torpor.storage.options import Options
from torpor.storage.transfer import Transfer
from torpor.testing.faults import Crash, CrashPoint, CrashStore, CrashTransfer
from torpor.wake.batch import Batch
from torpor.wake.files import Kept
from torpor.wake.finish import Finisher
from torpor.workspace.journal import Journal
from torpor.workspace.record import RecordWriter

T = TypeVar("T")
PACK = 1 << 20  # small packs, so that there are many


class Kill(CrashPoint):
    def run(self, operation: str, name: str, call: Callable[[], T]) -> T:
        try:
            return super().run(operation, name, call)
        except Crash:
            os.kill(os.getpid(), signal.SIGKILL)
            raise


def count(point: CrashPoint, owner: type, method: str) -> None:
    """Let calls of a method count as operations."""
    real = getattr(owner, method)

    def counted(*arguments: Any, **named: Any) -> Any:
        return point.run(method, "", lambda: real(*arguments, **named))

    setattr(owner, method, counted)


def arm(point: CrashPoint) -> None:
    """Let what a host does count as operations."""

    def transfer(grant: Grant, ask: Granter | None, options: Options) -> Transfer:
        return CrashTransfer(Transfer(grant, ask, options=options), point=point)

    setattr(torpor.hibernate.run, "Transfer", transfer)  # noqa: B010 - mypy knows that it is a class
    setattr(torpor.wake.run, "Transfer", transfer)  # noqa: B010
    setattr(torpor.hibernate.packer, "PACK_TARGET", PACK)  # noqa: B010
    count(point, Journal, "pack")
    count(point, RecordWriter, "finish")
    setattr(torpor.wake.batch, "MOST", 1)  # noqa: B010 - a call a file
    count(point, Kept, "seen")
    count(point, Batch, "_call")
    for step in ("folders", "symlinks", "hardlinks", "sweep", "extras", "metadata", "root_times"):
        count(point, Finisher, step)


def main() -> None:
    job = json.loads(sys.argv[1])
    point = Kill(job["at"], after=job["after"])
    arm(point)
    if job["do"] == "serve":  # a host alone, over its standard streams
        sys.exit(serve.main())
    lab = Lab(Path(job["lab"]), store=LocalStore(os.path.join(job["lab"], "store")))
    lab.repository.store = CrashStore(lab.store, point=point)
    if job["do"] == "take":
        lab.take(os.fsencode(job["root"]))
    else:
        lab.restore(os.fsencode(job["target"]), mode=job["mode"])
    sys.stdout.write(json.dumps(point.log))


if __name__ == "__main__":
    main()
