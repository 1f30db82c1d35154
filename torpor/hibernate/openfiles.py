"""Files that a process holds open for writing, or maps writable and shared: they may change at any moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

_ACCESS = os.O_ACCMODE


def open_for_writing(roots: list[bytes]) -> dict[bytes, str]:
    """Path → who holds it. Processes that this user may not look into are not seen; root sees all."""
    places = _Places(roots)
    own = os.getpid()
    found: dict[bytes, str] = {}
    for name in os.listdir(b"/proc"):
        if not name.isdigit() or int(name) == own:
            continue
        try:
            for path in (*_descriptors(name, places), *_maps(name, places)):
                found.setdefault(path, f"{_command(name)} ({int(name)})")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


class _Places:
    """The roots, as the kernel calls them."""

    def __init__(self, roots: list[bytes]) -> None:
        self._roots = [os.path.realpath(root) for root in roots]
        self._below = tuple(root.rstrip(b"/") + b"/" for root in self._roots)

    def hold(self, path: bytes) -> bool:
        return path.startswith(self._below) or path in self._roots


def _descriptors(process: bytes, places: _Places) -> list[bytes]:
    folder = b"/proc/" + process + b"/fd"
    out: list[bytes] = []
    for number in os.listdir(folder):
        try:
            path = os.readlink(folder + b"/" + number)
            if not places.hold(path):
                continue
            with open(b"/proc/" + process + b"/fdinfo/" + number, "rb") as file:
                for line in file:
                    if line.startswith(b"flags:"):
                        if int(line.split()[1], 8) & _ACCESS != os.O_RDONLY:
                            out.append(path)
                        break
        except FileNotFoundError:
            continue
    return out


def mapped_for_writing(roots: list[bytes]) -> frozenset[tuple[int, int]]:
    """Device and inode of files that any process, this one too, maps writable and shared, as far as this user sees them.

    On tmpfs a write through a mapping moves a file's times once, however long it goes on.
    """
    places = _Places(roots)
    found: set[tuple[int, int]] = set()
    for name in os.listdir(b"/proc"):
        if not name.isdigit():
            continue
        try:
            for device, inode, path in _mappings(name):
                major, _, minor = device.partition(b":")
                found.add((os.makedev(int(major, 16), int(minor, 16)), inode))  # by whatever name, even one that is gone
                if places.hold(path):
                    with suppress(OSError, ValueError):
                        status = os.stat(path)  # btrfs and overlayfs tell another device here
                        found.add((status.st_dev, status.st_ino))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return frozenset(found)


def _maps(process: bytes, places: _Places) -> list[bytes]:
    return [path for _, _, path in _mappings(process) if places.hold(path)]


def _mappings(process: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Device, inode and path of what a process maps writable and shared."""
    with open(b"/proc/" + process + b"/maps", "rb") as file:
        for line in file:
            fields = line.rstrip(b"\n").split(None, 5)
            if len(fields) == 6 and fields[1][1:2] == b"w" and fields[1][3:4] == b"s":
                path = fields[5].replace(b"\\012", b"\n")  # the one character that the kernel escapes here
                yield fields[3], int(fields[4]), path


def _command(process: bytes) -> str:
    with open(b"/proc/" + process + b"/comm", "rb") as file:
        return file.read().strip().decode("utf-8", "replace")
