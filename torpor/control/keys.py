"""Private keys: made, kept in `TORPOR_HOME`, wrapped under the recovery key for the bucket, and opened again."""

from __future__ import annotations

import base64
import hashlib
import secrets

import msgspec
from cryptography.exceptions import InvalidTag

from torpor.control.home import DamagedFile, Home
from torpor.errors import Damaged, KeysMissing, UsageError
from torpor.format import crypto, primitives, recovery
from torpor.format.manifest import PrivateKeys, WrappedKeys
from torpor.format.primitives import AESGCM
from torpor.settings import Secret


class Keyset(msgspec.Struct, frozen=True):
    """One generation of a repository's keys. `recovery` is empty where only the private keys are known."""

    repository: str
    private: PrivateKeys
    recovery: bytes = b""
    confirmed: bool = False

    @property
    def sign_public(self) -> bytes:
        return primitives.ed25519_private(self.private.sign).public_key().public_bytes_raw()

    @property
    def box_public(self) -> bytes:
        return primitives.x25519_private(self.private.box).public_key().public_bytes_raw()

    @property
    def id(self) -> str:
        return key_id(self.sign_public, self.box_public)

    def __repr__(self) -> str:
        return f"Keyset({self.id})"


def key_id(sign_public: bytes, box_public: bytes) -> str:
    return hashlib.sha256(b"torpor key v1\0" + sign_public + box_public).hexdigest()[:16]


def generate(repository: str) -> Keyset:
    # Any 32 random bytes are a private key of these curves (RFC 8032 §5.1.5, RFC 7748 §5).
    private = PrivateKeys(secrets.token_bytes(32), secrets.token_bytes(32), secrets.token_bytes(32))
    return Keyset(repository, private, secrets.token_bytes(recovery.LENGTH))


def _wrapping(repository: str, recovery_key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(crypto.derive(recovery_key, b"torpor wrap v1", repository.encode(), salt))


def wrap(keys: Keyset) -> WrappedKeys:
    """The private keys as the bucket keeps them."""
    salt = secrets.token_bytes(32)
    aad = keys.repository.encode() + b"\0" + keys.id.encode()
    data = msgspec.json.encode(keys.private)
    wrapped = _wrapping(keys.repository, keys.recovery, salt).encrypt(crypto.nonce(0), data, aad)
    return WrappedKeys(key=keys.id, repository=keys.repository, salt=salt, wrapped=wrapped)


def unwrap(wrapped: WrappedKeys, recovery_key: bytes) -> Keyset:
    """Open `keys/<key id>.json`. Raises `KeysMissing` for another repository's recovery key."""
    aad = wrapped.repository.encode() + b"\0" + wrapped.key.encode()
    try:
        data = _wrapping(wrapped.repository, recovery_key, wrapped.salt).decrypt(crypto.nonce(0), wrapped.wrapped, aad)
    except InvalidTag:
        raise KeysMissing(
            "This recovery key does not open the keys of this repository.",
            safe="Nothing was changed.",
            remedy="Use the recovery key that was printed when this repository was made.",
        ) from None
    keys = Keyset(wrapped.repository, msgspec.json.decode(data, type=PrivateKeys), recovery_key, True)
    if keys.id != wrapped.key:
        raise Damaged("The wrapped keys are not those they are named after.", safe="They were not used.")
    return keys


_SCRYPT = {"n": 1 << 15, "r": 8, "p": 1}


def _locked(passphrase: Secret, salt: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return AESGCM(Scrypt(salt=salt, length=32, **_SCRYPT).derive(passphrase.reveal().encode()))


def to_text(keys: Keyset, passphrase: Secret) -> dict[str, object]:
    """The keys as a JSON object: in the clear, or under a passphrase (scrypt, AES-256-GCM)."""
    plain = {
        "sign": base64.b64encode(keys.private.sign).decode(),
        "box": base64.b64encode(keys.private.box).decode(),
        "root": base64.b64encode(keys.private.root).decode(),
        "recovery": recovery.encode(keys.recovery) if keys.recovery else "",
    }
    out: dict[str, object] = {"torpor_keys": 1, "repository": keys.repository, "key": keys.id, "confirmed": keys.confirmed}
    if not passphrase:
        return out | plain
    salt = secrets.token_bytes(16)
    sealed = _locked(passphrase, salt).encrypt(crypto.nonce(0), msgspec.json.encode(plain), keys.repository.encode())
    return out | {"salt": base64.b64encode(salt).decode(), "sealed": base64.b64encode(sealed).decode()}


def from_text(data: dict[str, object], passphrase: Secret) -> Keyset:
    """The inverse of `to_text`."""
    try:
        repository = str(data["repository"])
        fields = data
        if "sealed" in data:
            if not passphrase:
                raise KeysMissing("The keys are under a passphrase.", remedy="Set TORPOR_PASSPHRASE, or give --passphrase-file.")
            gcm = _locked(passphrase, base64.b64decode(str(data["salt"])))
            opened = gcm.decrypt(crypto.nonce(0), base64.b64decode(str(data["sealed"])), repository.encode())
            fields = msgspec.json.decode(opened, type=dict[str, object])
        private = PrivateKeys(*(base64.b64decode(str(fields[name])) for name in ("sign", "box", "root")))
        if {len(private.sign), len(private.box), len(private.root)} != {32}:
            raise ValueError("a key has an impossible length")
        text = str(fields.get("recovery", ""))
        keys = Keyset(repository, private, recovery.decode(text) if text else b"", bool(data.get("confirmed")))
    except InvalidTag:
        raise KeysMissing("The passphrase is not the one these keys are under.", safe="Nothing was changed.") from None
    except (KeyError, ValueError) as error:
        raise UsageError(f"This is not a file of keys: {error}.", remedy="`torpor keys export` writes one.") from None
    if keys.id != data.get("key"):
        raise Damaged("The file of keys is damaged: its keys are not those it is named after.", safe="They were not used.")
    return keys


def load(home: Home, repository: str, passphrase: Secret) -> Keyset | None:
    """The keys of a repository from `TORPOR_HOME`; None if they are not there."""
    path = home.keys(repository)
    data = home.read(path)
    try:
        return from_text(data, passphrase) if data else None
    except (Damaged, UsageError) as error:
        raise DamagedFile(
            f"The keys in {path} can't be used: {error.what}",
            safe="Nothing was changed.",
            remedy="Move that file away, and bring the keys back with the recovery key: `torpor keys import`.",
        ) from None


def save(home: Home, keys: Keyset, passphrase: Secret) -> None:
    home.write(home.keys(keys.repository), to_text(keys, passphrase))


def confirm(home: Home, keys: Keyset, typed: str, passphrase: Secret) -> Keyset:
    """Check a typed recovery key against the one that was made; remembered from then on."""
    if not keys.recovery:
        raise KeysMissing("The recovery key is not known here, so it can't be compared.", remedy="Import it: `torpor keys import`.")
    if recovery.decode(typed) != keys.recovery:
        raise UsageError("This is not the recovery key of this repository.", remedy="`torpor keys show` prints it.")
    confirmed = Keyset(keys.repository, keys.private, keys.recovery, True)
    save(home, confirmed, passphrase)
    return confirmed
