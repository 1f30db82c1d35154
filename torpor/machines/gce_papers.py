"""What this computer remembers of an instance of Google's: its rental, and that it was destroyed, which Google forgets.

<machines>/gce/<project>_<zone>_<name>.json
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from torpor.machines.gce_place import Place


class Papers(msgspec.Struct, frozen=True):
    """`state`: `made`, `ready` (its host key is installed), `leaving` (its deletion was asked for) or `destroyed`, or nothing.
    `detail`: what goes on costing after it is destroyed."""

    rental: str = ""
    state: str = ""
    snapshot: str = ""
    detail: str = ""


class Drawer:
    """The papers of one place. A file that can't be read counts as none: Google's word is asked for first, always."""

    def __init__(self, folder: Path, place: Place) -> None:
        self._path = folder / "gce" / f"{place.project}_{place.zone}_{place.name}.json"

    def read(self) -> Papers:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Papers)
        except (FileNotFoundError, msgspec.DecodeError):
            return Papers()

    def write(self, papers: Papers) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        with open(temporary, "wb") as file:
            file.write(msgspec.json.encode(papers))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)
