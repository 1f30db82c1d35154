"""A local machine: a folder with a workspace, an identity and a state. The embedded default, to hibernate, destroy and wake for real.

<home>/machines/<name>/machine.json    state, rental, times
<home>/machines/<name>/workspace/      what is hibernated
<home>/machines/<name>/state/          the engine's records, gone with the machine
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from torpor.clock import rfc3339
from torpor.errors import DestroyRefused, MachineError, UsageError
from torpor.machines.base import Access, Ground, Proof, Status, Traits
from torpor.workspace.state import State
from torpor.workspace.system import mount_points

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


class LocalMachine:
    """`local:NAME` below a folder of machines."""

    traits = Traits(
        deletes="Destroying it deletes its workspace folder.", billed_stopped="It costs nothing.", notice=0.0,
    )  # fmt: skip

    def __init__(self, name: str, ground: Ground) -> None:
        if not _NAME.match(name):
            raise UsageError(f"{name!r} is no name for a machine.", remedy="Use letters, digits, dot, dash and underscore.")
        self.name = name
        self._folder = ground.folder / name
        self._clock = ground.clock

    @property
    def address(self) -> str:
        return f"local:{self.name}"

    @property
    def workspace(self) -> Path:
        return self._folder / "workspace"

    @property
    def state_folder(self) -> Path:
        return self._folder / "state"

    def _read(self) -> dict[str, str]:
        try:
            with open(self._folder / "machine.json", encoding="utf-8") as file:
                data = json.load(file)
        except FileNotFoundError:
            return {}
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise self._lost("its machine.json is damaged")
        return {str(key): str(value) for key, value in data.items()}

    def _lost(self, why: str) -> MachineError:
        return MachineError(
            f"{self.address} can't be told running from destroyed: {why}.",
            safe=f"Nothing was changed; its workspace is still in {self.workspace}.",
            remedy="Take a snapshot of that folder if it matters, then move it away and create the machine again.",
        )

    def _write(self, **fields: str) -> None:
        path = self._folder / "machine.json"
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(fields, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def status(self) -> Status:
        known = self._read()
        state = known.get("state")
        if state not in ("running", "destroyed"):
            return Status(self.address, "missing")
        return Status(self.address, "running" if state == "running" else "destroyed", known.get("rental", ""))

    def create(self) -> Status:
        status = self.status()
        if status.state == "running":
            return status
        if status.state == "missing" and self.workspace.exists() and any(self.workspace.iterdir()):
            raise self._lost("it has a workspace and no machine.json")  # only a proof lets a workspace go
        self._clear()
        self.workspace.mkdir(parents=True, exist_ok=True)
        rental = State(os.fsencode(self.state_folder)).rental()
        self._write(state="running", rental=rental, created=rfc3339(self._clock.now()))
        return self.status()

    def access(self) -> Access:
        status = self.status()
        if status.state != "running":
            raise MachineError(
                f"{self.address} is {status.state}.",
                safe="Nothing was changed.",
                remedy=f"Wake a snapshot on it: torpor wake latest --on {self.address}",
            )
        return Access([os.fsencode(self.workspace)], os.fsencode(self.state_folder))

    def destroy(self, proof: Proof) -> Status:
        """Delete workspace and records. The state is written first and last, so that a crash in between is finished by the next call."""
        known = self._read()
        if known.get("state") == "destroyed" and known.get("rental") == proof.rental:
            self._clear()
            return self.status()
        if known.get("state") != "running":
            raise DestroyRefused(
                f"{self.address} is not running, so there is nothing that a proof could be of.", safe="Nothing was changed."
            )
        proof.check(self.address, known.get("rental", ""), self._clock)
        self._refuse_mounts()
        self._write(state="destroyed", rental=proof.rental, snapshot=proof.snapshot, destroyed=rfc3339(self._clock.now()))
        self._clear()
        return self.status()

    def _refuse_mounts(self) -> None:
        """What is mounted inside must not go with the rest: deleting would descend into it."""
        inside = f"{self.workspace.resolve()}/"
        try:
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:  # no Linux
            mounts = ""
        for point in mount_points(mounts):
            if point.startswith(inside):
                raise DestroyRefused(
                    f"Something is mounted inside the workspace of {self.address}, at {point}.",
                    safe="Nothing was removed.",
                    remedy="Unmount it, then hibernate again.",
                )

    def _clear(self) -> None:
        for folder in (self.workspace, self.state_folder):
            if folder.exists():
                shutil.rmtree(folder)
