"""Which snapshots there are: manifests read and verified, ids looked up, rollback noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from torpor.control.repository import Repository
from torpor.errors import Damaged, Malformed, NotFound, RollbackSuspected, TorporError, UsageError
from torpor.format import crypto, manifest, names
from torpor.format.manifest import Manifest, Private, Removal
from torpor.format.untrusted import BROKEN
from torpor.storage.base import Missing


class Snapshot(msgspec.Struct, frozen=True):
    """A verified manifest. `private` is None without the box key; `sha256` is the manifest object's, in hex."""

    manifest: Manifest
    sha256: str
    private: Private | None

    @property
    def id(self) -> str:
        return self.manifest.snapshot


def ids(repository: Repository) -> list[str]:
    """Ids of all snapshots, oldest first."""
    found = []
    for info in repository.store.list(names.SNAPSHOTS):
        name = info.name[len(names.SNAPSHOTS) :].removesuffix(".json")
        if names.is_snapshot_id(name):
            found.append(name)
    return sorted(found)


def load(repository: Repository, snapshot: str) -> Snapshot:
    """Read and verify one manifest. Raises `NotFound`, `Damaged`, `Malformed`."""
    name = names.manifest(snapshot)
    try:
        data = repository.store.get(name)
    except Missing:
        raise NotFound(f"There is no snapshot {snapshot}.", remedy="`torpor snapshots` lists them.") from None
    payload = repository.verify("manifest", data, name)
    parsed = manifest.check_manifest(manifest.decode(payload, Manifest, name), snapshot)
    return Snapshot(parsed, hashlib.sha256(data).hexdigest(), _private(repository, parsed))


def _private(repository: Repository, parsed: Manifest) -> Private | None:
    if repository.encrypted and repository.keys is None:
        return None
    info = crypto.private_info(repository.id, parsed.snapshot)
    data = crypto.box_open(repository.box_private, parsed.private, info, f"the private part of {parsed.snapshot}")
    try:
        return msgspec.json.decode(data, type=Private)
    except BROKEN as error:
        raise Malformed(f"The private part of {parsed.snapshot} does not parse: {error}.") from None


def load_all(repository: Repository) -> tuple[list[Snapshot], dict[str, TorporError]]:
    """All snapshots, oldest first, and those whose manifests can't be believed, with the reason."""
    good: list[Snapshot] = []
    bad: dict[str, TorporError] = {}
    for snapshot in ids(repository):
        try:
            good.append(load(repository, snapshot))
        except NotFound:
            continue  # removed while we looked
        except (Damaged, Malformed) as error:
            bad[snapshot] = error
    return good, bad


def resolve(repository: Repository, text: str) -> str:
    """A snapshot id from an id, a unique beginning of one, or `latest`."""
    found = ids(repository)
    if not found:
        raise NotFound("There are no snapshots in this repository.", remedy="Make one: `torpor snapshot PATH`.")
    if text == "latest":
        return found[-1]
    matches = [snapshot for snapshot in found if text and snapshot.startswith(text)]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise NotFound(f"There is no snapshot {text!r}.", remedy="`torpor snapshots` lists them.")
    raise UsageError(f"{text!r} fits {len(matches)} snapshots: {', '.join(matches[:4])} …", remedy="Give more of the id.")


def pin(repository: Repository, snapshot: Snapshot) -> None:
    """Remember the newest manifest of a lineage, so that a store that loses it is noticed."""
    with repository.home.locked(repository.home.pins(repository.id)) as pins:
        known = pins.get(snapshot.manifest.lineage)
        if known is None or known["snapshot"] <= snapshot.id:
            # Reading a copy of it changes nothing of where it was seen first: there it is missed.
            seen = known.get("url") if known is not None and known["snapshot"] == snapshot.id else None
            pins[snapshot.manifest.lineage] = {"snapshot": snapshot.id, "sha256": snapshot.sha256, "url": seen or repository.store.url}


def check_pins(repository: Repository, present: Iterable[str]) -> None:
    """Raise `RollbackSuspected` if a pinned manifest is gone and nobody with the signing key removed it.

    A store of copies is not expected to have what was never copied to it.
    """
    from torpor.control.copylist import is_missed

    there = set(present)
    with repository.home.locked(repository.home.pins(repository.id)) as pins:
        for lineage, known in list(pins.items()):
            if known["snapshot"] in there or not is_missed(repository, known["snapshot"], str(known.get("url", ""))):
                continue
            if repository.store.head(names.manifest(known["snapshot"])) is not None:
                continue  # committed since `present` was listed
            if not removed_on_purpose(repository, known["snapshot"]):
                raise RollbackSuspected(
                    f"Snapshot {known['snapshot']}, which this computer has seen, is gone from {repository.store.url}.",
                    safe="Nothing was changed.",
                    remedy="Someone with access to the store removed it, or put an older state back. Look at the bucket's versions; "
                    f"if the loss is known, remove its line from {repository.home.pins(repository.id)}.",
                )
            del pins[lineage]


def check_lost(repository: Repository, present: Iterable[str]) -> None:
    """As `check_pins`, and raise `RollbackSuspected` too if a snapshot that has receipts lost its manifest in another way than removal.

    So that a computer without pins does not take for garbage what a lost manifest, put back, would need.
    """
    there = set(present)
    check_pins(repository, there)
    proven = {info.name.split("/")[1] for info in repository.store.list(names.RECEIPTS)}
    for snapshot in sorted(filter(names.is_snapshot_id, proven - there)):
        if repository.store.head(names.manifest(snapshot)) is None and not removed_on_purpose(repository, snapshot):
            raise RollbackSuspected(
                f"Snapshot {snapshot} has receipts and no manifest any more, and nobody removed it by `torpor rm`.",
                safe="Nothing was marked or deleted: its packs are still there.",
                remedy=f"Put {names.manifest(snapshot)} back from the bucket's versions or a copy; "
                f"if the loss is known, `torpor rm {snapshot} --damaged` records it.",
            )


def removed_on_purpose(repository: Repository, snapshot: str) -> bool:
    """Whether a signed removal record of this snapshot is in the store."""
    name = names.removed(snapshot)
    try:
        payload = repository.read_signed("removal", name)
    except Missing:
        return False
    return manifest.decode(payload, Removal, name).snapshot == snapshot
