"""Clear heads of indexes: which packs a snapshot names. Read by range and checked by digest, without any secret."""

from __future__ import annotations

import hashlib

from torpor.control.repository import Repository
from torpor.errors import Damaged
from torpor.format import index
from torpor.format.index import Head, Pack
from torpor.format.manifest import Manifest, Parent
from torpor.storage.base import PACKS, Info


def read_head(repository: Repository, name: str, size: int, sha256: str) -> Head:
    """The head of index `name` (below packs/). Raises `Damaged`, `Missing`, `Malformed`."""
    data = repository.store.get(PACKS + name, 0, size)
    index.check_digest(hashlib.sha256(data).hexdigest(), sha256, f"The head of index {name}")
    return index.parse_head(data, name)


def head_of(repository: Repository, manifest: Manifest) -> Head:
    ref = manifest.index
    return read_head(repository, ref.name, ref.head_size, ref.head_sha256)


def parent_of(manifest: Manifest) -> Parent:
    """What a claim says of a snapshot it builds on."""
    ref = manifest.index
    return Parent(manifest.snapshot, ref.name, ref.head_size, ref.head_sha256)


def present(repository: Repository, packs: list[Pack]) -> dict[str, int]:
    """Name → size of those packs that are in the store with their exact size and, where it tells one, their digest.

    The digest tells of a pack that was written over, where a store cannot refuse that, after the host had compared it.
    """
    wanted = {pack.name: pack for pack in packs}
    sizes: dict[str, int] = {}
    for prefix in sorted({pack.name.split("/", 1)[0] for pack in packs}):
        for info in repository.store.list(f"{PACKS}{prefix}/"):
            pack = wanted.get(info.name[len(PACKS) :])
            if pack is not None and pack.size == info.size and not _differs(pack, info):
                sizes[pack.name] = pack.size
    return {pack.name: pack.size for pack in packs if pack.name in sizes}


def _differs(pack: Pack, info: Info) -> bool:
    """Whether the digest in the index, which is padded, and the store's are of one kind, and not the same."""
    kind = index.DIGESTS.get(info.digest_kind, 0)
    return bool(kind) and kind == pack.digest_kind and pack.digest != info.digest.ljust(len(pack.digest), b"\0")


def check_present(repository: Repository, packs: list[Pack]) -> None:
    """Raise `Damaged` naming what is missing or has another size or digest."""
    there = present(repository, packs)
    missing = [pack.name for pack in packs if pack.name not in there]
    if missing:
        raise Damaged(
            f"{len(missing)} of {len(packs)} packs are missing from the store or have another size or digest: {', '.join(missing[:3])}.",
            safe="Nothing was committed or destroyed.",
            remedy="Take the snapshot again: what is still on the machine is stored anew.",
        )
