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

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from torpor.errors import Damaged, NoSpace, UsageError

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class DamagedFile(Damaged, ValueError):
    """A file of the home that is no JSON object."""


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
        """A JSON object; empty if there is no such file. Raises `DamagedFile`; `UsageError` if it can't be read."""
        try:
            with open(path, encoding="utf-8") as file:
                data = json.load(file)
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._unusable(error)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise DamagedFile(f"{path} is damaged: it holds no JSON object.", safe="Nothing was changed.", remedy=self._way_on(path))
        return data

    def _way_on(self, path: Path) -> str:
        if path.parent == self.path / "keys":
            return "Move it away, and bring the keys back with the recovery key: `torpor keys import`."
        if path.parent == self.path / "pins":
            return "Move it away: it is made anew, but a store that has lost its newest snapshots meanwhile is not noticed."
        return "Move it away: it is made anew."

    def _unusable(self, error: OSError) -> NoReturn:
        why = f"{error.filename or self.path}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(
                f"There is no room for torpor's home {self.path} ({why}).",
                safe="Nothing was changed.",
                remedy="Make room there, or set TORPOR_HOME.",
            ) from error
        raise UsageError(
            f"torpor's home {self.path} can't be used ({why}).",
            safe="Nothing was changed.",
            remedy="Set TORPOR_HOME to a folder that you may read and write.",
        ) from error

    def write(self, path: Path, data: dict[str, Any]) -> None:
        """Replace a JSON file in one step, mode 600, on disk when this returns. Raises `NoSpace`, `UsageError`; then it is as it was."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                json.dump(data, file, indent=1, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            self._unusable(error)

    @contextmanager
    def locked(self, path: Path) -> Iterator[dict[str, Any]]:
        """Read, let the caller change, and write back a JSON file, one process at a time.

        Of a home that may only be read nothing is written: what a restore or a verification would note is not needed by it.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = open(path.with_name(f".{path.name}.lock"), "w", encoding="ascii")  # noqa: SIM115 - closed below
        except OSError as error:
            if error.errno not in _READ_ONLY:
                self._unusable(error)
            yield self.read(path)
            return
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            data = self.read(path)
            before = json.dumps(data, sort_keys=True)
            yield data
            if json.dumps(data, sort_keys=True) != before:
                self.write(path, data)
