"""The host's state folder: the rental's identity, stat records and journals of unfinished snapshots.

rental                        32 hex digits, made once: which machine (from create to destroy) this is
records/<workspace>           the stat record of a set of roots
journals/<workspace>/<snapshot>-<attempt>   packs that an unfinished snapshot has put
restores/<workspace>          a restore under way (wake)
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress

from torpor.format import names
from torpor.workspace import journal


def workspace_id(repository: str, roots: list[bytes]) -> str:
    """Names the workspace at these roots (in order) as one repository knows it, within one host."""
    return hashlib.sha256(b"\0".join((repository.encode(), *map(os.path.realpath, roots)))).hexdigest()[:32]


class State:
    """Paths below one state folder, which is made at first use with permissions 0700."""

    def __init__(self, folder: bytes) -> None:
        self.folder = folder

    def rental(self) -> str:
        """This rental's id; made on first use, and only one of several racers wins."""
        path = os.path.join(self.folder, b"rental")
        while True:
            try:
                with open(path, encoding="ascii") as file:
                    text = file.read().strip()
                if names.is_hex32(text):
                    return text
            except FileNotFoundError:
                pass
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            temp = path + b".%d" % os.getpid() + secrets.token_hex(4).encode()
            with open(temp, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(16))
            try:
                os.link(temp, path)
            except FileExistsError:
                pass
            finally:
                os.unlink(temp)

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
