"""Why objects below packs/ are needed by nobody, told by the snapshot that wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torpor.control import catalogue
from torpor.control.repository import Repository
from torpor.format import names
from torpor.storage.base import PACKS


class Leftover(NamedTuple):
    """Objects that one snapshot wrote, `bytes` together; `why` is a clause."""

    snapshot: str
    objects: int
    bytes: int
    why: str


def by_snapshot(repository: Repository, sizes: Mapping[str, int]) -> list[Leftover]:
    """Objects (full name → size) by the snapshot that wrote them, oldest first."""
    groups: dict[str, list[int]] = {}
    for name, size in sizes.items():
        groups.setdefault(names.snapshot_of(name[len(PACKS) :]), []).append(size)
    removed = {info.name[len(names.REMOVED) :].removesuffix(".json") for info in repository.store.list(names.REMOVED)} if groups else set()
    there = set(catalogue.ids(repository)) if groups else set()
    return [Leftover(one, len(found), sum(found), _why(one, removed, there)) for one, found in sorted(groups.items())]


def _why(snapshot: str, removed: set[str], there: set[str]) -> str:
    if snapshot in there:
        return "no snapshot names them, not even their own"
    if snapshot in removed:
        return "their snapshot was removed, and no other names them"
    return "their snapshot was never finished"
