"""Marks: dated lists of what prune means to delete once their grace is over; signed, where the key is.

A computer without keys prunes too (docs/decisions/0009-prune-without-keys.md): its marks have no signature, so their date is believed
only as far as the store's own date of the object confirms it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import msgspec

from torpor.clock import parse_rfc3339, rfc3339
from torpor.control.repository import Repository
from torpor.errors import Damaged, Malformed
from torpor.format import envelope, manifest, names
from torpor.format.manifest import Mark
from torpor.storage.base import PACKS, Info, Missing


class Marked(msgspec.Struct, frozen=True):
    """One mark: its object name, when it was made (seconds), the objects it lists and their bytes."""

    name: str
    at: float
    objects: list[str]
    bytes: int = 0


def write(repository: Repository, objects: list[str], size: int) -> None:
    """Mark these objects, of `size` bytes together, as of now."""
    at = repository.clock.now()
    made = Mark(time=rfc3339(at), objects=objects, bytes=size)
    data = manifest.encode(made) if repository.keys is None else repository.sign("mark", made)
    repository.store.put(names.mark(at, secrets.token_bytes(4)), data, if_absent=True)


def load_all(repository: Repository) -> list[Marked]:
    """All marks, oldest first. One with a false signature raises, as one does that is none."""
    found: list[Marked] = []
    for info in repository.store.list(names.MARKS):
        try:
            found.append(_load(repository, info))
        except Missing:
            continue
    return sorted(found, key=lambda mark: mark.at)


def _load(repository: Repository, info: Info) -> Marked:
    data = repository.store.get(info.name)
    signed = envelope.is_signed(data)
    mark = manifest.decode(repository.verify("mark", data, info.name) if signed else data, Mark, info.name)
    if not all(name.startswith(PACKS) for name in mark.objects):
        raise Malformed(f"{info.name} lists other objects than packs.", safe="Nothing was deleted.")
    at = parse_rfc3339(mark.time)
    return Marked(info.name, at if signed else max(at, info.modified), mark.objects, mark.bytes)


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
