"""Directory handles: every file is opened relative to one, so that no link ever leads out of the target.

A handle is reached from its root step by step with O_NOFOLLOW; where a component is a symbolic link, opening it fails.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict

from torpor.errors import Malformed, TargetNotEmpty
from torpor.format.version import NONE
from torpor.wake.survey import Survey
from torpor.workspace import attributes

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KEEP = 128


def path_of(handle: int, name: bytes) -> bytes:
    """The path of `name` in an open folder, for people. With no handle, `name` is one already."""
    if handle < 0:
        return name
    try:
        folder = os.readlink(b"/proc/self/fd/%d" % handle)
    except OSError:
        return name
    return os.path.join(folder, name) if name else folder


def located(error: OSError, handle: int, name: bytes) -> OSError:
    """The error as one of this place: those of descriptors name none, and those of names leave out the folder."""
    known = error.filename
    path = known if isinstance(known, str | bytes) and os.path.isabs(known) else path_of(handle, name)
    return OSError(error.errno, error.strerror or str(error), path)


class Anchors:
    """Each root's place, opened once: whatever becomes of its path, all is written where that led at the start.

    `handles`: by root number the open directory that is the root, or that holds it if the root is a file; none if it is not there
    (a dry run). `names`: what a root that is a file is called in it.
    """

    def __init__(self, handles: dict[int, int], names: dict[int, bytes]) -> None:
        self._handles = handles
        self._names = names
        self.marked: set[int] = set()  # roots whose restore began with this job

    def open(self, root: int) -> int:
        """A handle of one's own. Raises `FileNotFoundError` for a root that is not there."""
        if root not in self._handles:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return os.dup(self._handles[root])

    def name(self, root: int) -> bytes:
        return self._names[root]

    def hand_down(self) -> bool:
        """Whether a root's place gives what is made in it an ACL."""
        return any(name == b"system.posix_acl_default" for handle in self._handles.values() for name, _ in attributes.read(handle))

    def close(self) -> None:
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()


class Folders:
    """One thread's open directories, the most recently used kept; while `pinned`, all."""

    def __init__(self, survey: Survey, anchors: Anchors) -> None:
        self._survey = survey
        self._anchors = anchors
        self._open: OrderedDict[int, int] = OrderedDict()
        self._parents: dict[int, int] = {}
        self.pinned = False

    @property
    def held(self) -> int:
        """How many are open."""
        return len(self._open)

    def fd(self, number: int) -> int:
        """An open handle of a directory entry; valid until the next call from this thread's `Folders`."""
        found = self._open.get(number)
        if found is not None:
            self._open.move_to_end(number)
            return found
        survey = self._survey
        chain = [number]
        while chain[-1] not in self._open and chain[-1] not in survey.roots:
            chain.append(survey.folders[chain[-1]][0])
        handle = -1
        for step in reversed(chain):
            if step in self._open:
                handle = self._open[step]
                continue
            if step in survey.roots:
                handle = self._anchors.open(survey.roots[step])
            else:
                try:
                    handle = os.open(survey.folders[step][1], _DIRECTORY, dir_fd=handle)
                except OSError as error:
                    if error.errno in (errno.ELOOP, errno.ENOTDIR):
                        raise TargetNotEmpty(
                            "A folder of the target was replaced by a link while it was being restored.",
                            safe="Nothing was written through it.",
                            remedy="Stop what writes there, then run the restore again.",
                        ) from None
                    raise
            self._open[step] = handle
        if not self.pinned:
            self._trim(max(_KEEP, len(chain)))
        self._open.move_to_end(number)
        return handle

    def _trim(self, most: int) -> None:
        while len(self._open) > most:
            _, old = self._open.popitem(last=False)
            os.close(old)

    def unpin(self) -> None:
        """Handles from before may be closed from now on."""
        self.pinned = False
        self._trim(_KEEP)

    def place(self, parent: int, name: bytes, number: int) -> tuple[int, bytes]:
        """(directory handle, name) under which an entry goes. A root that is a file goes to its target's own name."""
        if parent != NONE:
            return self.fd(parent), name
        root = self._survey.roots.get(number)
        if root is None:
            raise Malformed("An entry without a parent is not a root.")
        if root not in self._parents:
            self._parents[root] = self._anchors.open(root)
        return self._parents[root], self._anchors.name(root)

    def close(self) -> None:
        for handle in (*self._open.values(), *self._parents.values()):
            os.close(handle)
        self._open.clear()
        self._parents.clear()
