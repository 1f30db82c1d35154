"""What people write for an option, read: sizes, lengths of time, labels, maps."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence

from torpor import settings
from torpor.errors import UsageError

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def size(text: str, flag: str) -> int:
    """As `settings.size`: `512M`, `2GiB`, `1048576`."""
    return settings.size(text, flag)


def rate(text: str | None, flag: str) -> int:
    """`50M`: bytes a second; 0 if nothing was given. Raises `UsageError`."""
    if text is None:
        return 0
    found = size(text.strip().lower().removesuffix("/s"), flag)
    if not found:
        raise UsageError(f"{flag} {text!r} would move nothing.", remedy="Write bytes a second, such as 50M; leave it out for no limit.")
    return found


def sample(text: str, flag: str) -> tuple[float, int]:
    """`10%` or `20`: a part of all, or so many of them, the other being 0. Raises `UsageError`."""
    found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]+)?)%|([1-9][0-9]{0,8})", text.strip())
    part = float(found[1] or 0) / 100 if found is not None else 0.0
    if found is None or part > 1 or (found[1] and not part):
        raise UsageError(f"{flag} {text!r} is no sample.", remedy="Write a part of all packs, such as 10%, or how many.")
    return part, int(found[2] or 0)


def duration(text: str, flag: str) -> float:
    """`90s`, `30m`, `24h`, `7d`, `0`: seconds. Raises `UsageError`."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?) ?([smhdw]?)", text.strip().lower())
    if found is None:
        raise UsageError(f"{flag} {text!r} is no length of time.", remedy="Write it as 90s, 30m, 24h or 7d.")
    return float(found[1]) * _SECONDS[found[2]]


def whole_seconds(text: str, flag: str, least: int = 1) -> int:
    """As `duration`, in whole seconds, rounded up. Raises `UsageError` for less than `least`: none at all is mostly a slip."""
    found = math.ceil(duration(text, flag))
    if found < least:
        raise UsageError(f"{flag} {text!r} is too short.", remedy=f"Give it {least} s or more, or leave it out.")
    return found


def labels(texts: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` texts. Raises `UsageError`."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UsageError(f"--label {text!r} is no label.", remedy="Write it as KEY=VALUE.")
        found[key] = value
    return found


def maps(texts: Sequence[str]) -> dict[bytes, bytes]:
    """`OLD=NEW` texts; NEW becomes absolute. Raises `UsageError`."""
    found: dict[bytes, bytes] = {}
    for text in texts:
        old, _, new = text.partition("=")
        if not old or not new:
            raise UsageError(f"--map {text!r} maps nothing.", remedy="Write it as OLD=NEW, such as /workspace=/data/workspace.")
        if os.fsencode(old) in found:
            raise UsageError(f"--map names {old!r} twice.", remedy="Give each saved folder one place.")
        found[os.fsencode(old)] = os.fsencode(os.path.abspath(new))
    return found
