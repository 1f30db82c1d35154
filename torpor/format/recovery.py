"""The recovery key as text (docs/format.md §4): 20 random bytes one can write on paper, with a check against slips."""

from __future__ import annotations

import hashlib

from torpor.errors import UsageError

LENGTH = 20
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {c: i for i, c in enumerate(_ALPHABET)}
_SAME = str.maketrans("oil", "011")
_PREFIX = "torpor1"


def _check(key: bytes) -> bytes:
    return hashlib.sha256(b"torpor recovery v1\0" + key).digest()[:2]


def encode(key: bytes) -> str:
    """`torpor1-xxxxxx-…` of 20 bytes."""
    if len(key) != LENGTH:
        raise ValueError("a recovery key has 20 bytes")
    bits = int.from_bytes(key + _check(key), "big") << 4
    text = "".join(_ALPHABET[bits >> shift & 31] for shift in range(175, -1, -5))
    return "-".join([_PREFIX, *(text[i : i + 6] for i in range(0, 36, 6))])


def decode(text: str) -> bytes:
    """The 20 bytes; case, dashes and spaces don't matter. Raises `UsageError` that says what is off."""
    compact = "".join(text.split()).replace("-", "").lower().translate(_SAME)
    compact = compact.removeprefix(_PREFIX.translate(_SAME))
    if len(compact) != 36 or any(c not in _VALUES for c in compact):
        raise UsageError(
            "This is not a recovery key: it has the form torpor1-xxxxxx-xxxxxx-xxxxxx-xxxxxx-xxxxxx-xxxxxx.",
            remedy="`torpor keys show` prints it where the keys are.",
        )
    bits = 0
    for c in compact:
        bits = bits << 5 | _VALUES[c]
    data = (bits >> 4).to_bytes(22, "big")
    key = data[:LENGTH]
    if bits & 15 or data[LENGTH:] != _check(key):
        raise UsageError(
            "The recovery key has a slip in it: its check characters do not fit.", remedy="Compare it with the paper once more."
        )
    return key
