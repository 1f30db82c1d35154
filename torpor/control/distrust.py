"""Packs and indexes that a verification found damaged: no new snapshot builds on them, so that taking it again stores their content anew.

Kept in `TORPOR_HOME` as a cache: who loses it finds the damage again with the next verification. A pack that is read well later,
because a copy was put back, is trusted again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torpor.control.repository import Repository
from torpor.storage.base import PACKS


def learn(repository: Repository, damage: Mapping[str, str], good: Iterable[str]) -> None:
    """Remember damage (object name → what is wrong), and forget that of packs and indexes (named below packs/) that were read well."""
    bad = {name.removeprefix(PACKS): why for name, why in damage.items() if name.startswith(PACKS)}
    path = repository.home.damaged(repository.id)
    if not bad and not path.exists():
        return
    with repository.home.locked(path) as known:
        for name in good:
            known.pop(name, None)
        known.update(bad)


def packs(repository: Repository) -> set[str]:
    """Names, below packs/, of what is not to be built on."""
    return set(repository.home.read(repository.home.damaged(repository.id)))
