"""Names of files that have several: the first is read, the others link to it, as long as they are names of what was read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from torpor.format import entries
from torpor.workspace.scan import look

if TYPE_CHECKING:
    from torpor.hibernate.window import Window
    from torpor.workspace.scan import Status


class Link(NamedTuple):
    """A name that is to link to an earlier one. `relative`: its path within the root."""

    path: bytes
    relative: bytes


class Links:
    """Runs on the job's own thread.

    An inode's number is not enough to tell that two names are of one file: between the two looks the file may have been deleted, and its
    number given to another one, which many file systems do at once. Its ctime is of the moment it was made then. Nor is the first name
    enough to read the others by: it may be gone, or be another file's by the time that it is read.
    """

    def __init__(self) -> None:
        self._first: dict[tuple[int, ...], int] = {}
        # First names that were not read as the walk saw them: device and inode of what was read, None if nothing was.
        self._moved: dict[int, tuple[int, int] | None] = {}
        self._instead: dict[int, tuple[int, tuple[int, int]]] = {}  # the name that was read in place of one of those, and its inode

    def first(self, status: Status, number: int) -> int:
        """The entry that names this very file already, else `number`."""
        return self._first.setdefault(_state(status), number)

    def settle(self, window: Window, read: Callable[[int, Link], None]) -> None:
        """All rows of a block were read, and those of earlier blocks. `read(row, link)` reads a link as a file of its own."""
        block = window.block
        for row, seen in window.firsts.items():
            status = window.status(row)
            if block.type[row] != entries.FILE:
                self._moved[block.base + row] = None
            elif _state(status) != _state(seen):
                self._moved[block.base + row] = status.st_dev, status.st_ino
        if not self._moved:
            return
        for row, link in window.linked.items():
            first = block.content[row]
            if not isinstance(first, int) or first not in self._moved:
                continue
            now = look(link.path)
            here = now.st_dev, now.st_ino
            if here == self._moved[first]:
                continue
            instead = self._instead.get(first)
            if instead is not None and instead[1] == here:
                block.content[row] = instead[0]
                continue
            read(row, link)
            if block.type[row] == entries.FILE:
                status = window.status(row)
                self._instead[first] = block.base + row, (status.st_dev, status.st_ino)


def _state(status: Status) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
