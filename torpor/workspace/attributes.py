"""Extended attributes that a snapshot keeps: `user.*` and POSIX ACLs."""

from __future__ import annotations

import errno
import os

from torpor.jobs import show_path

_ACLS = ("system.posix_acl_access", "system.posix_acl_default")
# What setting may be refused with: no room beside the file, or a value that the kernel does not take for an ACL.
_REFUSED = (errno.EINVAL, errno.ERANGE, errno.ENOSPC)
_NONE = (errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.EACCES, errno.ENOSYS, errno.E2BIG, errno.ENOSPC, errno.ERANGE)
# What says that there are none; anything else says that they can't be read, such as names of more than 64 KiB: E2BIG.
_ABSENT = (errno.ENOTSUP, errno.ENODATA, errno.ENOSYS)


def read(fd: int, failed: list[OSError] | None = None) -> list[tuple[bytes, bytes]]:
    """(name, value) pairs of an open file or directory, by name. Empty where the file system has none.

    `failed` takes what kept it from reading others; without it, names that can't be listed are none.
    """
    try:
        found = os.listxattr(fd)
    except OSError as error:
        if failed is not None:
            if error.errno not in _ABSENT:
                failed.append(error)
            return []
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
                if error.errno == errno.ENODATA:
                    continue
                if failed is None:
                    raise
                failed.append(error)
    return out


def replace(fd: int, pairs: list[tuple[bytes, bytes]]) -> list[str]:
    """As `write`, where there may be attributes already: those that are not wanted are removed."""
    wanted = dict(pairs)
    there = dict(read(fd))
    refused: list[str] = []
    for name in there.keys() - wanted.keys():
        try:
            os.removexattr(fd, name)
        except OSError as error:
            if error.errno not in _NONE:
                raise
            refused.append(os.fsdecode(name))
    return refused + write(fd, [(name, value) for name, value in pairs if there.get(name) != value])


def write(fd: int, pairs: list[tuple[bytes, bytes]]) -> list[str]:
    """Set attributes on an open file or directory; names that the file system refuses are returned."""
    refused: list[str] = []
    for name, value in pairs:
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            if error.errno not in (*_NONE, *_REFUSED):
                raise
            refused.append(show_path(name))
    return refused
