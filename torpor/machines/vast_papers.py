"""What this computer keeps about one instance of vast.ai, since the service does not: `<machines>/vast/<id>.json`.

The pinned host key, what we want of it (the service says `stopped` of what we stopped and of what it took away), and its end.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from torpor.errors import MachineError
from torpor.machines.base import Ground


class Papers(msgspec.Struct, frozen=True, kw_only=True):
    """`host_key`: public. `wish`: what we asked for last, at `asked` (seconds since 1970); empty if never. `ready`: the `asked` of the
    start since which it shows that key. `ending`, `destroyed`: the rental that we began to end, and that was seen gone. `account`: a
    digest of the key that made it: another account sees nothing of it."""

    account: str = ""
    host_key: str = ""
    label: str = ""
    wish: Literal["", "running", "stopped"] = ""
    asked: float = 0.0
    ready: float = 0.0
    ending: str = ""
    destroyed: str = ""
    snapshot: str = ""
    ended: float = 0.0


class Drawer:
    """The papers of one instance; empty ones where there are none. Raises `MachineError` for a file that can't be read."""

    def __init__(self, ground: Ground, instance: str) -> None:
        self._path: Path = ground.folder / "vast" / f"{instance}.json"

    def read(self) -> Papers:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Papers)
        except FileNotFoundError:
            return Papers()
        except (OSError, msgspec.DecodeError) as error:
            raise MachineError(
                f"The papers of this machine can't be read: {self._path}.",
                safe="Nothing was changed.",
                remedy="Move the file away; then its host key must be in TORPOR_KNOWN_HOSTS.",
            ) from error

    def write(self, papers: Papers) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        with open(temporary, "wb") as file:
            file.write(msgspec.json.encode(papers))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)

    def note(self, **fields: object) -> Papers:
        papers = msgspec.structs.replace(self.read(), **fields)
        self.write(papers)
        return papers
