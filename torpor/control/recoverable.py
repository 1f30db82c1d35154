"""Whether the recovery key would bring the private keys back: that is what counts once this computer is gone."""

from __future__ import annotations

from torpor.control import keys as keystore
from torpor.control.repository import Repository
from torpor.errors import Damaged, KeysMissing, Malformed
from torpor.format import manifest, names
from torpor.format.manifest import WrappedKeys
from torpor.storage.base import Missing

REMEDY = "`torpor keys confirm` asks for the recovery key and puts the keys there again, wrapped under it."


def trouble(repository: Repository) -> str:
    """Why the recovery key would not open the keys in this store; empty if it would, or if there is nothing to open.

    Where the recovery key itself is not known here, the keys have at least to be there. Raises `KeysMissing`, `StorageUnavailable`.
    """
    if not repository.encrypted:
        return ""
    keys = repository.private()
    name = _name(keys)
    try:
        wrapped = manifest.decode(repository.store.get(name), WrappedKeys, name)
        if (wrapped.key, wrapped.repository) != (keys.id, repository.id):
            return f"{name} holds other keys"
        if keys.recovery and keystore.unwrap(wrapped, keys.recovery).private != keys.private:
            return f"{name} holds other keys"
    except Missing:
        return f"{name} is not in the store"
    except (KeysMissing, Damaged, Malformed) as error:
        return f"{name} is damaged: {error.what.rstrip('.')}"
    return ""


def put_again(repository: Repository, *, only_missing: bool = False) -> bool:
    """Put the wrapped keys into the store, where they are needed and not right; whether that was done.

    `only_missing`: not over what is there, which perhaps another recovery key opens.
    """
    keys = repository.private()
    if not keys.recovery or not trouble(repository):
        return False
    if only_missing and any(info.name == _name(keys) for info in repository.store.list(names.KEYS)):
        return False
    repository.store.put(_name(keys), manifest.encode(keystore.wrap(keys)))
    return True


def _name(keys: keystore.Keyset) -> str:
    return f"{names.KEYS}{keys.id}.json"
