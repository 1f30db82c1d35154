"""What a restore needs (the repository, copies, this computer's keys) must lie apart from what is written to or removed."""

from __future__ import annotations

import os
from collections.abc import Iterable

from torpor.control.home import Home
from torpor.errors import DestroyRefused, UsageError
from torpor.jobs import Target, show_path
from torpor.storage.urls import file_path, folder_of


def check(home: Home, urls: Iterable[str], targets: list[Target]) -> None:
    """Raise `UsageError` if a target of this computer holds one of these stores, one that this home knows, or the home, or lies in one."""
    stores = {os.fsencode(file_path(url)) for url in (*urls, *home.read(home.repositories)) if url.startswith("file:")}
    own = os.fsencode(home.path)
    for target in targets:
        above = _ids_above(target.path)
        for path, what, option in [(own, "torpor's home", "--home"), *((store, "a repository", "--storage") for store in sorted(stores))]:
            if not os.path.isdir(path):
                continue
            if _id(target.path) in _ids_above(path):
                raise UsageError(
                    f"{show_path(target.path)} holds {what}, {show_path(path)}, which the restore would write over.",
                    safe="Nothing was written.",
                    remedy=f"Restore to another folder, and move from there what you need; or move {show_path(path)} elsewhere first, and "
                    f"name it with {option}.",
                )
            if _id(path) in above and not (path == own and _is_machine(home, target.path)):
                raise UsageError(
                    f"{show_path(target.path)} lies in {what}, {show_path(path)}.",
                    safe="Nothing was written.",
                    remedy="Restore to a folder that lies apart from it.",
                )


def check_going(home: Home, urls: Iterable[str], roots: Iterable[bytes]) -> None:
    """Raise `DestroyRefused` if one of these stores, or the home, lies in a folder of this computer that would be removed."""
    stores = [os.fsencode(folder) for folder in map(folder_of, urls) if folder]
    for root in roots:
        for path, what in [(os.fsencode(home.path), "torpor's home, with the keys"), *((store, "a repository") for store in stores)]:
            if os.path.isdir(path) and _id(root) in _ids_above(path):
                raise DestroyRefused(
                    f"{show_path(root)} holds {what}, {show_path(path)}, which would go with it.",
                    safe="Nothing was removed.",
                    remedy=f"Move {show_path(path)} to another place, name that, and hibernate again.",
                )


def _is_machine(home: Home, path: bytes) -> bool:
    """Whether a path lies in the workspace of a local machine, which is kept in the home."""
    parts = os.path.relpath(os.path.realpath(path), os.path.realpath(os.fsencode(home.machines))).split(b"/")
    return len(parts) > 1 and parts[0] != b".." and parts[1] == b"workspace"


def _id(path: bytes) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:  # it is not there, so it holds nothing
        return None
    return status.st_dev, status.st_ino


def _ids_above(path: bytes) -> set[tuple[int, int]]:
    """Device and inode of a path and of each folder above it: by them a place is known whatever links and mounts lead to it."""
    found: set[tuple[int, int]] = set()
    place = os.path.realpath(path)
    while True:
        one = _id(place)
        if one is not None:
            found.add(one)
        if place in (b"/", b""):
            return found
        place = os.path.dirname(place)
