"""Finding a snapshot to read: in the repository, or, if that does not give it, in the first copy that does. Says so, and how old it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from torpor.clock import SYSTEM, Clock, parse_rfc3339
from torpor.control import catalogue, copylist
from torpor.control.home import Home
from torpor.control.repository import Note, Repository, open_repository
from torpor.errors import Damaged, Malformed, NotFound, RollbackSuspected, StorageUnavailable, TorporError
from torpor.providers import shown
from torpor.storage.table import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torpor.settings import Settings

FAILURES = (StorageUnavailable, NotFound, Damaged, Malformed)  # of a store; anything else is the asker's


def find(settings: Settings, text: str, note: Note, clock: Clock = SYSTEM) -> tuple[Repository, str]:
    """The repository to read from, and the id of the snapshot that `text` names (an id, the beginning of one, `latest`).

    A copy must be of the same repository, as far as this computer knows which one that is. Raises what the first store raised if no
    copy does better, and `RollbackSuspected` for `latest` of a copy that lacks the newest one which this computer has seen.
    """
    try:
        repository = open_repository(settings, note=note, clock=clock)
        return repository, catalogue.resolve(repository, text)
    except FAILURES as error:
        first = error
    for copy in _copies(settings, note, clock):
        try:
            found = catalogue.resolve(copy, text)
            snapshot = catalogue.load(copy, found)
        except FAILURES as error:
            note(f"The copy at {copy.store.url} does not help: {error.what}")
            continue
        age = _age(clock.now() - parse_rfc3339(snapshot.manifest.created))
        note(f"{shown(settings.storage)} can't be used: {first.what} Reading the copy at {copy.store.url}: snapshot {found}, {age} old.")
        _check_newest(copy, snapshot, text, note)
        return copy, found
    raise first


def others(repository: Repository, snapshot: str, note: Note) -> Iterator[Repository]:
    """Other stores that should have the snapshot, opened one after the other as the same repository; the reason why not is noted."""
    for url in copylist.urls_of(repository, snapshot):
        copy = _open(msgspec.structs.replace(repository.settings, storage=url), repository.id, note, repository.clock)
        if copy is not None:
            yield copy


def _copies(settings: Settings, note: Note, clock: Clock) -> Iterator[Repository]:
    """All stores that may hold copies of the repository that was last seen at the settings' storage."""
    home = Home(settings.home)
    url = copylist.full(settings.storage)
    known = home.read(home.repositories).get(url)
    urls = list(settings.copies)
    if isinstance(known, str):
        remembered = copylist.at_home(home, known)
        urls += [place for snapshot in sorted(remembered, reverse=True) for place in remembered[snapshot]]
    for place in dict.fromkeys(map(copylist.full, urls)):
        if place != url:
            copy = _open(msgspec.structs.replace(settings, storage=place), known if isinstance(known, str) else "", note, clock)
            if copy is not None:
                yield copy


def _open(settings: Settings, repository: str, note: Note, clock: Clock) -> Repository | None:
    try:
        open_store(settings.storage, settings.access)
        found = open_repository(settings, note=note, clock=clock)
    except TorporError as error:
        note(f"The copy at {shown(settings.storage)} can't be opened: {error.what}")
        return None
    if repository and found.id != repository:
        note(f"{shown(settings.storage)} holds another repository ({found.id[:8]}, not {repository[:8]}), so it is no copy.")
        return None
    return found


def _check_newest(copy: Repository, snapshot: catalogue.Snapshot, text: str, note: Note) -> None:
    """What this computer has seen of the workspace must not be older than what it is given for the newest."""
    known = copy.home.read(copy.home.pins(copy.id)).get(snapshot.manifest.lineage)
    if not isinstance(known, dict) or str(known.get("snapshot", "")) <= snapshot.id:
        return
    if text == "latest":
        raise RollbackSuspected(
            f"The newest snapshot in the copy at {copy.store.url} is {snapshot.id}; this computer has seen a newer one of that "
            f"workspace, {known['snapshot']}.",
            safe="Nothing was restored.",
            remedy=f"To go on with the older one, name it: `torpor restore {snapshot.id} …`.",
        )
    note(f"This computer has seen a newer snapshot of that workspace, {known['snapshot']}.")


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds) // length} {unit}"
    return f"{max(0, int(seconds))} seconds"
