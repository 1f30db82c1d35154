"""The host's state folder: the rental's identity, stat records and journals of unfinished snapshots.

rental                        32 hex digits, made once: which machine (from create to destroy) this is
records/<workspace>           the stat record of a set of roots
journals/<workspace>/<snapshot>-<attempt>   packs that an unfinished snapshot has put
restores/<workspace>          a restore under way (wake)
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from contextlib import suppress

from torpor.format import names
from torpor.workspace import journal


def workspace_id(repository: str, roots: list[bytes]) -> str:
    """Names the workspace at these roots (in order) as one repository knows it, within one host."""
    return hashlib.sha256(b"\0".join((repository.encode(), *map(os.path.realpath, roots)))).hexdigest()[:32]


def _id_in(path: bytes) -> str | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(64).strip()
    except FileNotFoundError:
        return None
    return text if names.is_hex32(text) else None


class State:
    """Paths below one state folder, which is made at first use with permissions 0700."""

    def __init__(self, folder: bytes) -> None:
        self.folder = folder

    def rental(self) -> str:
        """This rental's id; made on first use, and only one of several racers wins."""
        path = os.path.join(self.folder, b"rental")
        if (found := _id_in(path)) is not None:
            return found
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if (found := _id_in(path)) is not None:
                return found
            # There is none, or a crash or a full disk left one that is none: this is another rental then, and its records are not believed.
            made = secrets.token_hex(16)
            temp = path + b".%d" % os.getpid() + secrets.token_hex(4).encode()
            try:
                with open(temp, "w", encoding="ascii") as file:
                    file.write(made)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temp, path)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temp)
                raise
            os.fsync(folder)
            return made
        finally:
            os.close(folder)

    def record(self, workspace: str) -> bytes:
        return os.path.join(self.folder, b"records", workspace.encode())

    def records(self) -> list[bytes]:
        """Paths of all records."""
        folder = os.path.join(self.folder, b"records")
        try:
            return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
        except FileNotFoundError:
            return []

    def restore_mark(self, workspace: str) -> bytes:
        return os.path.join(self.folder, b"restores", workspace.encode())

    def journals(self, workspace: str) -> bytes:
        return os.path.join(self.folder, b"journals", workspace.encode())

    def hand_on(self, path: bytes, snapshot: str) -> None:
        """Let a journal that `snapshot` builds on go by its name: it is needed until that snapshot is committed."""
        attempt = os.path.basename(path)[28:]
        with suppress(FileNotFoundError):  # another attempt was quicker
            os.rename(path, os.path.join(os.path.dirname(path), snapshot.encode() + b"-" + attempt))

    def unfinished(self, workspace: str) -> list[tuple[str, bytes]]:
        """(snapshot it goes by, path) of each journal of a workspace whose attempt has ended."""
        folder = self.journals(workspace)
        try:
            found = sorted(os.listdir(folder))
        except FileNotFoundError:
            return []
        out: list[tuple[str, bytes]] = []
        for name in found:
            snapshot = os.fsdecode(name)[:27]
            path = os.path.join(folder, name)
            if names.is_snapshot_id(snapshot) and not journal.is_running(path):
                out.append((snapshot, path))
        return out
