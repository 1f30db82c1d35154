"""Reading a file that others may be writing: is what was read one state of it?"""

from __future__ import annotations

import os

from torpor.format import entries
from torpor.hibernate.window import Window
from torpor.workspace import attributes

TRIES = 3  # how often a file that changes while it is read is read again before it is reported as torn


def same(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether nothing changed between two stats of one file."""
    return (
        before.st_size == after.st_size
        and before.st_mtime_ns == after.st_mtime_ns
        and before.st_ctime_ns == after.st_ctime_ns
        and before.st_ino == after.st_ino
    )


def take_attributes(window: Window, row: int, fd: int) -> None:
    """Keep the extended attributes of an open file or directory in its row."""
    pairs = attributes.read(fd)
    if pairs:
        window.set_attributes(row, entries.encode_attributes(pairs))
