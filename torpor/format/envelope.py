"""Signed JSON (docs/format.md §3): the framing around manifests, receipts, claims, marks, removals and the configuration."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from torpor.errors import Damaged, Malformed

_HEAD = b'{"signed":'
_TAIL = re.compile(rb',"key":"([0-9a-f]{16})","signature":"([A-Za-z0-9+/]{86}==)"\}\n\Z')
_TAIL_LENGTH = 130
PAYLOAD_MAX = 64 * 1024 * 1024

CONTEXTS = ("config", "manifest", "receipt", "claim", "mark", "removal")


def message(context: str, repository: str, payload: bytes) -> bytes:
    if context not in CONTEXTS:
        raise ValueError(f"unknown context {context!r}")
    return b"\0".join((f"torpor {context} v1".encode(), repository.encode(), payload))


def wrap(context: str, repository: str, payload: bytes, key_id: str, private: bytes) -> bytes:
    """Sign `payload` (a JSON object as bytes) and frame it."""
    signature = Ed25519PrivateKey.from_private_bytes(private).sign(message(context, repository, payload))
    encoded = base64.b64encode(signature)
    return _HEAD + payload + b',"key":"' + key_id.encode() + b'","signature":"' + encoded + b'"}\n'


def split(data: bytes, what: str) -> tuple[bytes, str, bytes]:
    """Payload, key id and signature of framed bytes; nothing is verified yet."""
    if len(data) > PAYLOAD_MAX or not data.startswith(_HEAD):
        raise Malformed(f"{what} is not signed JSON.")
    tail = _TAIL.match(data, len(data) - _TAIL_LENGTH)
    if tail is None:
        raise Malformed(f"{what} is not signed JSON.")
    return data[len(_HEAD) : -_TAIL_LENGTH], tail[1].decode(), base64.b64decode(tail[2])


def unwrap(context: str, repository: str, data: bytes, public: Mapping[str, bytes], what: str) -> bytes:
    """The payload, after its signature was verified against the named key. Raises `Malformed` or `Damaged`."""
    payload, key_id, signature = split(data, what)
    key = public.get(key_id)
    if key is None:
        raise Damaged(
            f"{what} is signed by key {key_id}, which this repository does not have.",
            safe="It was not believed.",
            remedy="If keys were rotated elsewhere, run `torpor keys import` with the recovery key.",
        )
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message(context, repository, payload))
    except InvalidSignature:
        raise Damaged(
            f"The signature of {what} is false: it was changed or forged.",
            safe="It was not believed and nothing was written.",
            remedy="Look at who can write to the bucket; other snapshots are not affected.",
        ) from None
    return payload
