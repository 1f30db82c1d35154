"""Signed JSON (docs/format.md §3): the framing around manifests, receipts, claims, marks, removals, copies and the configuration."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature

from torpor.errors import Damaged, Malformed
from torpor.format import primitives

_HEAD = b'{"signed":'
_TAIL = re.compile(rb',"key":"([0-9a-f]{16})","signature":"([A-Za-z0-9+/]{86}==)"\}\n\Z')
_TAIL_LENGTH = 130
PAYLOAD_MAX = 64 * 1024 * 1024

CONTEXTS = ("config", "manifest", "receipt", "claim", "mark", "removal", "copy")


def message(context: str, repository: str, payload: bytes) -> bytes:
    if context not in CONTEXTS:
        raise ValueError(f"unknown context {context!r}")
    return b"\0".join((f"torpor {context} v1".encode(), repository.encode(), payload))


def wrap(context: str, repository: str, payload: bytes, key_id: str, private: bytes) -> bytes:
    """Sign `payload` (a JSON object as bytes) and frame it."""
    signature = primitives.ed25519_private(private).sign(message(context, repository, payload))
    encoded = base64.b64encode(signature)
    return _HEAD + payload + b',"key":"' + key_id.encode() + b'","signature":"' + encoded + b'"}\n'


def is_signed(data: bytes) -> bool:
    """Whether it begins as signed JSON does; no other JSON that torpor writes does."""
    return data.startswith(_HEAD)


def split(data: bytes, what: str) -> tuple[bytes, str, bytes]:
    """Payload, key id and signature of framed bytes; nothing is verified yet."""
    if len(data) > PAYLOAD_MAX or not is_signed(data):
        raise Malformed(f"{what} is not signed JSON.")
    tail = _TAIL.match(data, max(0, len(data) - _TAIL_LENGTH))
    signature = base64.b64decode(tail[2]) if tail is not None else b""
    # Base64 leaves four bits of the last character free; they must be zero, so that every bit of the object is covered.
    if tail is None or base64.b64encode(signature) != tail[2]:
        raise Malformed(f"{what} is not signed JSON.")
    return data[len(_HEAD) : -_TAIL_LENGTH], tail[1].decode(), signature


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
        primitives.ed25519_public(key).verify(signature, message(context, repository, payload))
    except (InvalidSignature, ValueError):  # ValueError: the key itself, which a forged configuration may name, is none
        raise Damaged(
            f"The signature of {what} is false: it was changed or forged.",
            safe="It was not believed and nothing was written.",
            remedy="Look at who can write to the bucket; other snapshots are not affected.",
        ) from None
    return payload
