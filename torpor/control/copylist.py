"""Where copies of snapshots are: what settings say, what this computer remembers, and signed records beside each snapshot.

All of it is a hint: a copy is believed because of its signatures and digests, as any store is. Who loses the hints names the copy.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from torpor.clock import rfc3339
from torpor.errors import Damaged, Malformed, TorporError
from torpor.format import manifest, names
from torpor.format.manifest import Copy
from torpor.providers import shown
from torpor.storage.base import Missing
from torpor.storage.table import open_store

if TYPE_CHECKING:
    from torpor.control.catalogue import Snapshot
    from torpor.control.home import Home
    from torpor.control.repository import Repository
    from torpor.storage.base import Store


def remember(repository: Repository, snapshot: Snapshot, url: str) -> None:
    """Note, here and in the repository, that the store at `url` has the snapshot. Raises what the store raises."""
    at = repository.clock.now()
    with repository.home.locked(repository.home.copies(repository.id)) as known:
        known.setdefault(snapshot.id, {})[url] = rfc3339(at)
    made = Copy(snapshot=snapshot.id, manifest_sha256=snapshot.sha256, url=url, time=rfc3339(at))
    if any((old.url, old.manifest_sha256) == (url, snapshot.sha256) for old in recorded(repository, snapshot.id)):
        return
    repository.store.put(names.copy(snapshot.id, at), repository.sign("copy", made))


def recorded(repository: Repository, snapshot: str) -> list[Copy]:
    """The records beside a snapshot, oldest first; those that can't be believed are left out."""
    found: list[Copy] = []
    for info in repository.store.list(f"{names.COPIES}{snapshot}/"):
        try:
            copy = manifest.decode(repository.read_signed("copy", info.name), Copy, info.name)
        except (Missing, Damaged, Malformed):
            continue
        if copy.snapshot == snapshot:
            found.append(copy)
    return found


def at_home(home: Home, repository: str) -> dict[str, dict[str, str]]:
    """Snapshot → URL → when it was copied there, of the copies that this computer made."""
    found = home.read(home.copies(repository))
    return {snapshot: urls for snapshot, urls in found.items() if isinstance(urls, dict)}


def urls_of(repository: Repository, snapshot: str) -> list[str]:
    """URLs of other stores that should have this snapshot, in the order in which they are asked."""
    found = [*repository.settings.copies, *at_home(repository.home, repository.id).get(snapshot, {})]
    with suppress(TorporError):  # the store has other troubles, then: that is what copies are for
        found += [copy.url for copy in recorded(repository, snapshot)]
    return [url for url in dict.fromkeys(map(full, found)) if url != repository.store.url]


def stores_of(repository: Repository, snapshot: str, notes: list[str]) -> list[Store]:
    """Those of these stores that can be opened; why others can't goes into `notes`. Nothing is read from them."""
    found: list[Store] = []
    for url in urls_of(repository, snapshot):
        try:
            store = open_store(url, repository.settings.access)
        except TorporError as error:
            notes.append(f"The copy at {shown(url)} can't be used: {error.what}")
            continue
        if store.url not in (repository.store.url, *(other.url for other in found)):
            found.append(store)
    return found


def full(url: str) -> str:
    """A URL as stores write theirs: a bare path becomes one."""
    from torpor.storage.urls import file_url

    return url if ":" in url.partition("/")[0] else file_url(os.path.abspath(os.path.expanduser(url)))


def is_missed(repository: Repository, snapshot: str, seen_at: str) -> bool:
    """Whether a snapshot that was seen at the URL `seen_at` should be in this store.

    A store of copies has what was copied to it and what was taken there, and need not have the rest.
    """
    known = at_home(repository.home, repository.id)
    here = repository.store.url
    return here in (seen_at, *known.get(snapshot, {})) or not any(here in urls for urls in known.values())
