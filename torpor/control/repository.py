"""An open repository: its store, its configuration, its keys. Made at first use; a kill during that leaves nothing to mend."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import msgspec

from torpor.clock import SYSTEM, Clock, rfc3339
from torpor.control import keys as keystore
from torpor.control.home import Home
from torpor.control.keys import Keyset
from torpor.errors import Damaged, KeysMissing, NotFound
from torpor.format import envelope, manifest, names, recovery
from torpor.format.manifest import Config, PublicKey, WrappedKeys
from torpor.settings import Settings
from torpor.storage.base import Exists, Missing, Store
from torpor.storage.table import open_store

ENCRYPTED = "hpke-aes256gcm"
PLAIN = "none"

Note = Callable[[str], None]


def _silent(text: str) -> None:
    del text


def _as_it_is(store: Store) -> Store:
    return store


class Repository(msgspec.Struct):
    """Everything the control side needs to act on one repository. `keys` is None where only public data can be read.

    `reach` makes any store one whose grants the job's host can use.
    """

    store: Store
    config: Config
    home: Home
    settings: Settings
    keys: Keyset | None = None
    clock: Clock = SYSTEM
    created: bool = False
    reach: Callable[[Store], Store] = _as_it_is
    notes: list[str] = msgspec.field(default_factory=list)

    @property
    def id(self) -> str:
        return self.config.repository

    @property
    def encrypted(self) -> bool:
        return self.config.encryption != PLAIN

    @property
    def public_keys(self) -> dict[str, bytes]:
        """Signing keys by key id."""
        return {key.id: key.sign for key in self.config.keys}

    @property
    def box_public(self) -> bytes | None:
        return self.config.keys[-1].box if self.encrypted else None

    @property
    def box_private(self) -> bytes | None:
        return self.private().private.box if self.encrypted else None

    def private(self) -> Keyset:
        """The private keys. Raises `KeysMissing` with the way to get them."""
        if self.keys is None:
            raise KeysMissing(
                f"The keys of repository {self.id[:8]} are not on this computer.",
                safe="Nothing was changed.",
                remedy="Import them with the recovery key: `torpor keys import`, or set TORPOR_RECOVERY_KEY.",
            )
        return self.keys

    @property
    def recovery_confirmed(self) -> bool:
        return self.settings.recovery_confirmed or (self.keys is not None and self.keys.confirmed)

    def sign(self, context: str, what: object) -> bytes:
        keys = self.private()
        return envelope.wrap(context, self.id, manifest.encode(what), keys.id, keys.private.sign)  # type: ignore[arg-type]

    def verify(self, context: str, data: bytes, what: str) -> bytes:
        """The payload of signed JSON, after its signature was checked."""
        return envelope.unwrap(context, self.id, data, self.public_keys, what)

    def read_signed(self, context: str, name: str) -> bytes:
        return self.verify(context, self.store.get(name), name)


def open_repository(
    settings: Settings, *, create: bool = False, encryption: str = ENCRYPTED, clock: Clock = SYSTEM, note: Note = _silent
) -> Repository:
    """Open the repository at `settings.storage`; with `create`, make one in an empty store.

    Raises `NotFound` (no repository), `Damaged` (its configuration is gone or false), `StorageUnavailable`.
    """
    home = Home(settings.home)
    store = open_store(settings.storage, settings.access)
    data = config_bytes(store)
    created = False
    if data is None:
        check_empty(store)
        if not create:
            raise NotFound(
                f"There is no repository at {store.url}.",
                safe="Nothing was changed.",
                remedy="The first `torpor snapshot` makes one; or give another --storage.",
            )
        data, created = _create(settings, store, home, encryption, clock)
    config, keys = trusted(data, store, home, settings)
    with home.locked(home.repositories) as known:
        before = known.get(store.url)
        if before not in (None, config.repository):
            note(f"The repository at {store.url} is another one than last time ({str(before)[:8]}, now {config.repository[:8]}).")
        known[store.url] = config.repository
    return Repository(store, config, home, settings, keys, clock, created)


def config_bytes(store: Store) -> bytes | None:
    try:
        return store.get(names.CONFIG)
    except Missing:
        return None


def check_empty(store: Store) -> None:
    """Without a configuration, anything but keys means that a repository was damaged, not that there is none."""
    for prefix in (names.SNAPSHOTS, names.PACKS):
        if next(iter(store.list(prefix)), None) is not None:
            raise Damaged(
                f"{store.url} holds {prefix} and no {names.CONFIG}: its configuration was lost.",
                safe="Nothing was changed; the snapshots are still there.",
                remedy=f"Put {names.CONFIG} back from a copy, or read the snapshots with tools/unfreeze.py and the recovery key.",
            )


def _create(settings: Settings, store: Store, home: Home, encryption: str, clock: Clock) -> tuple[bytes, bool]:
    """Keys first, on this computer and wrapped in the store; the configuration, last, makes it a repository.

    Returns the configuration, and whether it is ours: somebody else may have been first, and then ours is the one that goes.
    """
    keys = keystore.generate(secrets.token_hex(16))
    keystore.save(home, keys, settings.passphrase)
    wrapped = f"{names.KEYS}{keys.id}.json"
    store.put(wrapped, manifest.encode(keystore.wrap(keys)))
    at = rfc3339(clock.now())
    config = Config(
        repository=keys.repository,
        encryption=encryption,
        created=at,
        keys=[PublicKey(keys.id, keys.sign_public, keys.box_public, at)],
    )
    data = envelope.wrap("config", keys.repository, manifest.encode(config), keys.id, keys.private.sign)
    try:
        store.put(names.CONFIG, data, if_absent=True)
    except Exists:
        found = store.get(names.CONFIG)
        store.delete([wrapped])
        home.keys(keys.repository).unlink(missing_ok=True)
        return found, False
    found = store.get(names.CONFIG)
    return found, found == data


def trusted(data: bytes, store: Store, home: Home, settings: Settings) -> tuple[Config, Keyset | None]:
    """Parse the configuration and believe it as far as it agrees with the keys that are here."""
    payload, key_id, _ = envelope.split(data, names.CONFIG)
    config = manifest.decode(payload, Config, names.CONFIG)
    if not names.is_hex32(config.repository) or not config.keys or config.keys[-1].id != key_id:
        raise _false_config("it contradicts itself")
    envelope.unwrap("config", config.repository, data, {key.id: key.sign for key in config.keys}, names.CONFIG)
    if any(keystore.key_id(key.sign, key.box) != key.id for key in config.keys):
        raise _false_config("its keys are not those they are named after")
    keys = keystore.load(home, config.repository, settings.passphrase)
    if keys is None and settings.recovery_key:
        keys = from_recovery(store, config, recovery.decode(settings.recovery_key.reveal()))
    if keys is not None and keys.id not in {key.id for key in config.keys}:
        raise _false_config("it does not name the keys that are on this computer")
    return config, keys


def _false_config(why: str) -> Damaged:
    return Damaged(
        f"{names.CONFIG} is not to be believed: {why}.",
        safe="Nothing was read or written by it.",
        remedy="Look at who can write to the bucket; tools/unfreeze.py reads the snapshots with the recovery key alone.",
    )


def from_recovery(store: Store, config: Config, recovery_key: bytes) -> Keyset:
    """The private keys from the bucket, opened with the recovery key."""
    name = f"{names.KEYS}{config.keys[-1].id}.json"
    try:
        data = store.get(name)
    except Missing:
        raise KeysMissing(
            f"{name} is not in the store, so the recovery key opens nothing.",
            remedy="Import a file of keys: `torpor keys import --file`.",
        ) from None
    return keystore.unwrap(manifest.decode(data, WrappedKeys, name), recovery_key)


def import_keys(repository: Repository, keys: Keyset) -> Repository:
    """Keep keys on this computer, after they were checked against the repository's configuration."""
    if keys.repository != repository.id or keys.id not in repository.public_keys:
        raise KeysMissing("These are the keys of another repository.", safe="Nothing was changed.")
    keystore.save(repository.home, keys, repository.settings.passphrase)
    return msgspec.structs.replace(repository, keys=keys)
