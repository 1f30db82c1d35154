"""What the control side keeps in `TORPOR_HOME`: private keys, pins, which repository is where. All but the keys is cache.

keys/<repository>.json     private keys and recovery key, mode 600
repositories.json          URL → repository id
pins/<repository>.json     newest manifest seen of each lineage
damaged/<repository>.json  packs that a verification found damaged
copies/<repository>.json   where copies of snapshots are
jobs/<key>.json            long jobs on machines that nobody has dealt with yet
verifying/                 what verifications that did not end have read
host/                      state of this computer as a host (records, journals)
machines/<name>/           local machines
bundles/                   engines as hosts get them
leases/<id>.json           machines that were rented, from before they are made
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Home:
    """Paths and small JSON files below one folder, which is made at first use with permissions 0700."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def host_state(self) -> bytes:
        return os.fsencode(self.path / "host")

    def keys(self, repository: str) -> Path:
        return self.path / "keys" / f"{repository}.json"

    def pins(self, repository: str) -> Path:
        return self.path / "pins" / f"{repository}.json"

    def damaged(self, repository: str) -> Path:
        return self.path / "damaged" / f"{repository}.json"

    def copies(self, repository: str) -> Path:
        return self.path / "copies" / f"{repository}.json"

    @property
    def jobs(self) -> Path:
        return self.path / "jobs"

    @property
    def verifying(self) -> Path:
        return self.path / "verifying"

    @property
    def repositories(self) -> Path:
        return self.path / "repositories.json"

    @property
    def machines(self) -> Path:
        return self.path / "machines"

    @property
    def bundles(self) -> Path:
        return self.path / "bundles"

    @property
    def leases(self) -> Path:
        return self.path / "leases"

    def read(self, path: Path) -> dict[str, Any]:
        """A JSON object; empty if there is no such file."""
        try:
            with open(path, encoding="utf-8") as file:
                data = json.load(file)
        except FileNotFoundError:
            return {}
        return data if isinstance(data, dict) else {}

    def write(self, path: Path, data: dict[str, Any]) -> None:
        """Replace a JSON file in one step, mode 600, on disk when this returns."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    @contextmanager
    def locked(self, path: Path) -> Iterator[dict[str, Any]]:
        """Read, let the caller change, and write back a JSON file, one process at a time."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(path.with_name(f".{path.name}.lock"), "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            data = self.read(path)
            before = json.dumps(data, sort_keys=True)
            yield data
            if json.dumps(data, sort_keys=True) != before:
                self.write(path, data)
