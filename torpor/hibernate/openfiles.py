"""Files of a workspace that a process holds open for writing, or maps writable and shared: they may change at any moment."""

from __future__ import annotations

import os

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


def _maps(process: bytes, places: _Places) -> list[bytes]:
    out: list[bytes] = []
    with open(b"/proc/" + process + b"/maps", "rb") as file:
        for line in file:
            fields = line.rstrip(b"\n").split(None, 5)
            if len(fields) == 6 and fields[1][1:2] == b"w" and fields[1][3:4] == b"s":
                path = fields[5].replace(b"\\012", b"\n")  # the one character that the kernel escapes here
                if places.hold(path):
                    out.append(path)
    return out


def _command(process: bytes) -> str:
    with open(b"/proc/" + process + b"/comm", "rb") as file:
        return file.read().strip().decode("utf-8", "replace")
