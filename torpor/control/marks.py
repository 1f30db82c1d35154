"""Marks: signed, dated lists of what prune means to delete once their grace is over."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from torpor.clock import parse_rfc3339
from torpor.control.repository import Repository
from torpor.errors import Damaged
from torpor.format import manifest, names
from torpor.format.manifest import Mark
from torpor.storage.base import PACKS, Missing


class Marked(msgspec.Struct, frozen=True):
    """One mark: its object name, when it was made (seconds), and the objects it lists."""

    name: str
    at: float
    objects: list[str]


def load_all(repository: Repository) -> list[Marked]:
    """All marks, oldest first. One that can't be verified raises: it may be a forgery that wants something deleted."""
    found: list[Marked] = []
    for info in repository.store.list(names.MARKS):
        try:
            mark = manifest.decode(repository.read_signed("mark", info.name), Mark, info.name)
        except Missing:
            continue
        found.append(Marked(info.name, parse_rfc3339(mark.time), mark.objects))
    return sorted(found, key=lambda mark: mark.at)


def check_unmarked(repository: Repository, packs: Iterable[str]) -> None:
    """Raise `Damaged` if a pack (named below packs/) stands in a mark: prune may be deleting it at this moment."""
    wanted = {PACKS + pack for pack in packs}
    for mark in load_all(repository):
        hit = wanted.intersection(mark.objects)
        if hit:
            raise Damaged(
                f"{len(hit)} packs that the snapshot builds on were marked for removal by a prune, such as {min(hit)}.",
                safe="No manifest was written; nothing else was changed.",
                remedy="Run the snapshot again: it will not build on them.",
            )
