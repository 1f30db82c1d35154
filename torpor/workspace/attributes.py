"""Extended attributes that a snapshot keeps: `user.*` and POSIX ACLs."""

from __future__ import annotations

import errno
import os

_ACLS = ("system.posix_acl_access", "system.posix_acl_default")
_NONE = (errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.EACCES, errno.ENOSYS, errno.E2BIG)


def read(fd: int) -> list[tuple[bytes, bytes]]:
    """(name, value) pairs of an open file or directory, by name. Empty where the file system has none."""
    try:
        found = os.listxattr(fd)
    except OSError as error:
        if error.errno in _NONE:
            return []
        raise
    if not found:
        return []
    out: list[tuple[bytes, bytes]] = []
    for name in sorted(found):
        if name.startswith("user.") or name in _ACLS:
            try:
                out.append((os.fsencode(name), os.getxattr(fd, name)))
            except OSError as error:
                if error.errno != errno.ENODATA:
                    raise
    return out


def write(fd: int, pairs: list[tuple[bytes, bytes]]) -> list[str]:
    """Set attributes on an open file or directory; names that the file system refuses are returned."""
    refused: list[str] = []
    for name, value in pairs:
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            if error.errno not in _NONE:
                raise
            refused.append(os.fsdecode(name))
    return refused
