"""Key derivation, sealing and opening (docs/format.md §4). Everything is AES-256-GCM, HKDF-SHA256, HPKE, Ed25519 of `cryptography`."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from torpor.errors import Damaged
from torpor.format import primitives
from torpor.format.primitives import AESGCM

TAG = 16


def derive(key: bytes, *info: bytes) -> bytes:
    """HKDF-SHA256 without salt to 32 bytes; `info` parts are joined by a NUL byte."""
    prk = hmac.digest(bytes(32), key, hashlib.sha256)
    return hmac.digest(prk, b"\0".join(info) + b"\x01", hashlib.sha256)


def id_key(root: bytes, lineage: str) -> bytes:
    return derive(root, b"torpor id v1", lineage.encode())


def ticket(id_key: bytes) -> bytes:
    """What a host keeps to show later that it was given this lineage: it tells nothing about the id key."""
    return derive(id_key, b"torpor ticket v1")


def index_key(data_key: bytes, writer: str) -> bytes:
    return derive(data_key, b"torpor index v1", writer.encode())


def pack_key(data_key: bytes, pack: str, salt: bytes) -> bytes:
    return derive(data_key, b"torpor pack v1", pack.encode(), salt)


def nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


class Sealer:
    """Seals and opens numbered pieces under one key. A number must be used once."""

    __slots__ = ("_gcm",)

    def __init__(self, key: bytes) -> None:
        self._gcm = AESGCM(key)

    def seal(self, number: int, data: bytes | bytearray | memoryview, aad: bytes) -> bytes:
        return self._gcm.encrypt(nonce(number), data, aad)

    def seal_into(self, number: int, data: bytes | bytearray | memoryview, aad: bytes, out: bytearray | memoryview) -> int:
        return self._gcm.encrypt_into(nonce(number), data, aad, out)

    def open(self, number: int, data: bytes | bytearray | memoryview, aad: bytes, what: str) -> bytes:
        try:
            return self._gcm.decrypt(nonce(number), data, aad)
        except InvalidTag:
            raise broken_seal(what) from None

    def open_into(self, number: int, data: bytes | bytearray | memoryview, aad: bytes, out: bytearray | memoryview, what: str) -> int:
        try:
            return self._gcm.decrypt_into(nonce(number), data, aad, out)
        except InvalidTag:
            raise broken_seal(what) from None


def broken_seal(what: str) -> Damaged:
    return Damaged(
        f"The seal of {what} does not match: these are not the bytes that were written.",
        safe="Nothing of it was used.",
        remedy="Run `torpor verify --full` to see which snapshots it hurts; another copy or snapshot may hold the data.",
    )


_HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def data_key_info(repository: str, writer: str) -> bytes:
    return b"\0".join((b"torpor datakey v1", repository.encode(), writer.encode()))


def private_info(repository: str, snapshot: str) -> bytes:
    return b"\0".join((b"torpor private v1", repository.encode(), snapshot.encode()))


def box_seal(public: bytes | None, data: bytes, info: bytes) -> bytes:
    """HPKE base mode to an X25519 public key; without a key (an unencrypted repository) the plain bytes."""
    if public is None:
        return data
    return _HPKE.encrypt(data, primitives.x25519_public(public), info)


def box_open(private: bytes | None, data: bytes, info: bytes, what: str) -> bytes:
    """The inverse of `box_seal`."""
    if private is None:
        return data
    try:
        return _HPKE.decrypt(data, primitives.x25519_private(private), info)
    except (InvalidTag, ValueError):
        raise broken_seal(what) from None
