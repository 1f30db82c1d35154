"""The store that a copy goes to, as a repository: the same one, made there if the store is empty."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from torpor.control.repository import Repository, check_empty, config_bytes, trusted
from torpor.errors import Damaged, UsageError
from torpor.format import envelope, manifest, names
from torpor.format.manifest import Config
from torpor.storage.base import Exists
from torpor.storage.table import open_store
from torpor.storage.urls import folder_of

if TYPE_CHECKING:
    from torpor.storage.base import Store


_OBJECTS = (names.SNAPSHOTS, names.RECEIPTS, names.CLAIMS, names.MARKS, names.REMOVED, names.COPIES, names.PACKS, names.KEYS)


class Destination(msgspec.Struct):
    """`repository` as it will be in its store. `config`: what has to be written first; None: it is there already."""

    repository: Repository
    config: bytes | None

    def write_config(self, source: Repository) -> None:
        """Keys, then the configuration, unless they are there."""
        if self.config is None:
            return
        store = self.repository.store
        there = {info.name for info in store.list(names.KEYS)}
        for info in source.store.list(names.KEYS):
            if info.name not in there:
                store.put(info.name, source.store.get(info.name))
        try:
            store.put(names.CONFIG, self.config, if_absent=True)
        except Exists:  # an older one: keys were rotated since; or another copy was quicker
            store.put(names.CONFIG, self.config)
        self.config = None


def open_destination(source: Repository, url: str) -> Destination:
    """Look at a store that copies of `source` shall go to; nothing is written.

    Raises `UsageError` for the same store and for one that holds another repository, `Damaged` for one that lost its configuration.
    """
    store = open_store(url, source.settings.access)
    if store.url == source.store.url or _is_one_folder(store.url, source.store.url):
        raise UsageError(f"{store.url} is where the snapshot is.", safe="Nothing was changed.", remedy="Name another store with --to.")
    for inner, outer in ((store.url, source.store.url), (source.store.url, store.url)):
        if _is_inside(inner, outer):
            raise UsageError(
                f"{inner} lies in {outer}: a prune there would take the objects of the one for rubbish of the other.",
                safe="Nothing was changed.",
                remedy="Name a store that lies apart with --to.",
            )
    ours = source.store.get(names.CONFIG)
    theirs = config_bytes(store)
    if theirs is None:
        check_empty(store)
    else:
        _check_same(source, store, theirs)
    config = ours if theirs is None or _is_newer(source, theirs) else None
    settings = msgspec.structs.replace(source.settings, storage=store.url)
    shown, _ = trusted(config or theirs or ours, store, source.home, source.settings)
    return Destination(Repository(store, shown, source.home, settings, source.keys, source.clock), config)


def _is_one_folder(url: str, other: str) -> bool:
    """Whether two folders are one, by a link or a mount: what is called a copy would be none."""
    paths = folder_of(url), folder_of(other)
    return all(map(os.path.isdir, paths)) and os.path.samefile(*paths)


def _is_inside(url: str, other: str) -> bool:
    """Of folders, whether one holds the other; elsewhere, whether one lies among the other's objects."""
    inner, outer = folder_of(url), folder_of(other)
    if inner and outer:
        return os.path.realpath(inner).startswith(os.path.realpath(outer).rstrip("/") + "/")
    rest = url.removeprefix(other.rstrip("/") + "/")
    return rest != url and f"{rest.partition('/')[0]}/" in _OBJECTS


def _check_same(source: Repository, store: Store, data: bytes) -> None:
    payload, _, _ = envelope.split(data, names.CONFIG)
    found = manifest.decode(payload, Config, names.CONFIG)
    if found.repository != source.id:
        raise UsageError(
            f"{store.url} holds another repository ({found.repository[:8]}, and this is {source.id[:8]}).",
            safe="Nothing was changed.",
            remedy="Copy to an empty prefix, or to one that holds copies of this repository.",
        )


def _is_newer(source: Repository, theirs: bytes) -> bool:
    """Whether the source knows keys that the destination does not. Raises `Damaged` if each knows some that the other does not."""
    payload, _, _ = envelope.split(theirs, names.CONFIG)
    known = [key.id for key in manifest.decode(payload, Config, names.CONFIG).keys]
    mine = [key.id for key in source.config.keys]
    shorter = min(len(known), len(mine))
    if known[:shorter] != mine[:shorter]:
        raise Damaged(
            "The configurations of the two stores name different keys.",
            safe="Nothing was changed.",
            remedy="Rotate keys in one place only; look at who can write to either.",
        )
    return len(mine) > len(known)
