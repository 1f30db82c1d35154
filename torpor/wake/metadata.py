"""Permissions, owners, times and attributes of what is restored, by the job's rules."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections import Counter
from collections.abc import Sequence

from torpor.format import entries
from torpor.format.entries import EntryBlock
from torpor.format.meta import Meta
from torpor.jobs import RestoreJob
from torpor.native.kernels import SET_MODE, SET_OWNER, SPECIAL
from torpor.workspace import attributes


class Metadata:
    """Applies metadata through open descriptors. What the system refuses is counted in `refused`, never silently dropped."""

    def __init__(self, job: RestoreJob, meta: Meta) -> None:
        self._setuid = job.setuid
        self.occupied = False  # targets may hold files, or hand down ACLs: what is made has attributes and bits that nobody set
        self._root = os.geteuid() == 0
        self.change = job.owners != "none" and self._root
        self.refused: Counter[str] = Counter()
        self._plain: dict[tuple[int, int, int], int] = {}
        self._users = _by_name(meta.users, lambda name: pwd.getpwnam(name).pw_uid) if job.owners == "names" else {}
        self._groups = _by_name(meta.groups, lambda name: grp.getgrnam(name).gr_gid) if job.owners == "names" else {}
        self._euid, self._egid = os.geteuid(), os.getegid()
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._wants_owners = job.owners != "none"

    def mode(self, block: EntryBlock, row: int) -> int:
        """Permissions to set. Without --setuid, files lose their setuid and setgid bits; folders keep setgid and sticky."""
        mode = block.mode[row]
        if self._setuid:
            return mode
        return mode & 0o3777 if block.type[row] == entries.DIRECTORY else mode & 0o1777

    def owner(self, block: EntryBlock, row: int) -> tuple[int, int]:
        uid, gid = block.uid[row], block.gid[row]
        return self._users.get(uid, uid), self._groups.get(gid, gid)

    def created(self, fd: int, block: EntryBlock, row: int) -> None:
        """Finish a file that was just created with its permissions by `open`, as this user."""
        owner = self.owner(block, row)
        if owner != (self._euid, self._egid):
            self._chown(fd, owner)
        mode = self.mode(block, row)
        if self.occupied or mode & (0o7000 | self._umask) or owner != (self._euid, self._egid):
            os.fchmod(fd, mode)
        self._attributes_and_time(fd, block, row)

    def plain_modes(self, block: EntryBlock, rows: Sequence[int]) -> list[int]:
        """Permissions for new files, with `SET_MODE` if `open` can't give them all and `SET_OWNER` if that is to be set.

        `SPECIAL` for one that needs more than those and a time.
        """
        if self.occupied:
            return [SPECIAL] * len(rows)
        mode, uid, gid = block.mode, block.uid, block.gid
        keys = [(mode[row], uid[row], gid[row]) for row in rows]
        for key in set(keys) - self._plain.keys():  # a workspace has few of them
            self._plain[key] = self._plain_mode(block, rows[keys.index(key)])
        modes = list(map(self._plain.__getitem__, keys))
        if block.attributes:
            modes = [SPECIAL if row in block.attributes else mode for row, mode in zip(rows, modes, strict=True)]
        return modes

    def _plain_mode(self, block: EntryBlock, row: int) -> int:
        mode = self.mode(block, row)
        if self.owner(block, row) != (self._euid, self._egid):
            if self.change:
                return mode | SET_MODE | SET_OWNER
            return SPECIAL if self._wants_owners else mode | SET_MODE
        return mode | SET_MODE if mode & (0o7000 | self._umask) else mode

    def for_folder(self, block: EntryBlock, row: int) -> tuple[int, int, int]:
        """Permissions and owner of a directory; `SPECIAL` for the first if it needs more than those and a time."""
        owner = self.owner(block, row)
        special = self.occupied or row in block.attributes or not (self.change or owner == (self._euid, self._egid))
        return SPECIAL if special else self.mode(block, row), *owner

    def apply(self, fd: int, block: EntryBlock, row: int, status: os.stat_result) -> None:
        """Make an existing file or folder agree; `status` is its stat now."""
        owner = self.owner(block, row)
        if owner != (status.st_uid, status.st_gid):
            self._chown(fd, owner)
        mode = self.mode(block, row)
        if stat.S_IMODE(status.st_mode) != mode or owner != (status.st_uid, status.st_gid):
            os.fchmod(fd, mode)
        self._attributes_and_time(fd, block, row)

    def _attributes_and_time(self, fd: int, block: EntryBlock, row: int) -> None:
        if row in block.attributes or self.occupied:
            wanted = entries.decode_attributes(block.attributes[row]) if row in block.attributes else []
            for name in (attributes.replace if self.occupied else attributes.write)(fd, wanted):
                self.refused[f"attribute {name}"] += 1
        mtime = block.mtime[row]
        os.utime(fd, ns=(mtime, mtime))

    def link(self, handle: int, name: bytes, block: EntryBlock, row: int) -> None:
        """Owner and time of a symbolic link."""
        owner = self.owner(block, row)
        if owner != (self._euid, self._egid):
            if self.change:
                os.chown(name, *owner, dir_fd=handle, follow_symlinks=False)
            elif self._wants_owners:
                self.refused["owner"] += 1
        mtime = block.mtime[row]
        os.utime(name, ns=(mtime, mtime), dir_fd=handle, follow_symlinks=False)

    def _chown(self, fd: int, owner: tuple[int, int]) -> None:
        if self.change:
            os.fchown(fd, *owner)
        elif self._wants_owners:
            self.refused["owner"] += 1

    def notes(self) -> list[str]:
        """What could not be set, for people."""
        out: list[str] = []
        for what, count in sorted(self.refused.items()):
            if what == "owner":
                out.append(f"The owners of {count} entries were not restored: only root can give files away.")
            elif what == "hard link":
                out.append(f"{count} hard links became files of their own: what they share lies on another file system.")
            else:
                out.append(f"The {what} of {count} entries was refused by this file system.")
        return out


def _by_name(names: dict[str, str], look_up: object) -> dict[int, int]:
    found: dict[int, int] = {}
    for number, name in names.items():
        try:
            found[int(number)] = look_up(name)  # type: ignore[operator]
        except KeyError:
            continue
    return found
