"""What a store's answers mean: pure, and for every kind of store that speaks HTTP. Nothing of a body is ever shown but its code."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import TYPE_CHECKING, NamedTuple

from torpor.errors import NoSpace
from torpor.storage.base import Exists, GrantExpired, Missing, Refused
from torpor.storage.retry import Again, retry_after

if TYPE_CHECKING:
    from torpor.storage.grants import Call

NEAR = 60.0  # seconds by which clocks may differ

_CODE = re.compile(rb'<Code>\s*([A-Za-z0-9_.-]{1,80})\s*</Code>|"(?:code|reason)"\s*:\s*"([A-Za-z0-9_.-]{1,80})"')
_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(?:(\d{1,18})|\*)\Z")
_ETAG = re.compile(r'"?([0-9a-fA-F]{32})"?\Z')

_EXPIRED = {"ExpiredToken", "RequestExpired", "TokenRefreshRequired", "expired_auth_token"}
_FULL = {"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "cap_exceeded", "storage_cap_exceeded", "quotaExceeded"}
_BUSY = {"Busy", "ServiceUnavailable", "SlowDown", "TooManyRequests", "rateLimitExceeded", "service_unavailable", "too_many_requests"}
_AGAIN = {
    "BadDigest", "ConditionalRequestConflict", "IncompleteBody", "InternalError", "OperationAborted", "RequestTimeout", "internalError",
    "internal_error", "request_timeout",
} | _BUSY  # fmt: skip
_STATUS_BUSY = {429, 503}
_STATUS_FINAL = {501, 505, 507}
_REMEDIES = {
    "NoSuchBucket": "Make the bucket, or correct the repository's URL.",
    "PermanentRedirect": "The bucket is in another region: give it in the repository's URL.",
    "RequestTimeTooSkewed": "Set this machine's clock.",
    "SignatureDoesNotMatch": "Check the secret key, the region and the endpoint on the control side.",
}


class Taken(Exception):
    """The name of a put is taken, or perhaps it is: the store did not say by whom."""


class Span(NamedTuple):
    """`Content-Range`: the bytes `first` to `last` that follow (-1: none), of `total` (None: not told)."""

    first: int
    last: int
    total: int | None


def content_range(text: str) -> Span | None:
    """None if it is none that could be used."""
    found = _RANGE.match(text.strip())
    if found is None:
        return None
    first, last, total = found.groups()
    span = Span(int(first) if first else -1, int(last) if last else -1, int(total) if total else None)
    if span.last < span.first or (span.total is not None and span.last >= span.total):
        return None
    return span


def etag_md5(text: str, encryption: str = "") -> bytes:
    """The MD5 that an ETag is; empty if it is none. With keys of a key service it looks like one and is not."""
    found = _ETAG.match(text.strip())
    return bytes.fromhex(found[1]) if found and not encryption.startswith("aws:kms") else b""


def goog_md5(text: str) -> bytes:
    """The MD5 in Google's `x-goog-hash: crc32c=…, md5=…`; empty if there is none, as of objects that were composed of others."""
    for part in text.split(","):
        kind, _, value = part.strip().partition("=")
        if kind == "md5":
            try:
                found = b64decode(value, validate=True)
            except ValueError:
                return b""
            return found if len(found) == 16 else b""
    return b""


def code_of(body: bytes) -> str:
    """The code in an error's body, XML or JSON; empty if there is none."""
    found = _CODE.search(body)
    return (found[1] or found[2]).decode() if found else ""


def is_error_page(body: bytes) -> bool:
    """Whether an answer of success carries an error all the same, as S3's can that began before the store knew."""
    return b"<Error>" in body[:1024]


def failure(status: int, body: bytes, asked: str, call: Call, place: str, now: float, sent: bool = True) -> Exception:
    """The error for an answer that is none of those that the request hoped for.

    `asked`: its `Retry-After`. `now`: seconds since 1970. `sent`: the whole body of a put had been sent. Returns `Again`, `Taken` (of
    a put) or an error of torpor.
    """
    code = code_of(body)
    verb = "read" if call.method in ("GET", "HEAD") else "write"
    said = f"{place} answered {status}{f' {code}' if code else ''}"
    over = status in (400, 401, 403) and code not in _AGAIN and 0 < call.expires <= now + NEAR
    if code in _EXPIRED or b"equest has expired" in body or over:
        return GrantExpired(
            f"The grant to {verb} {call.name} has run out ({said}).", remedy="The control side renews a running job's grant by itself."
        )
    if code in _FULL or status == 507:
        return NoSpace(
            f"The store is full: {said} when it was to {verb} {call.name}.", remedy="Make room there, then run the command again."
        )
    if code in _AGAIN or status in (408, 425, 429) or (status >= 500 and status not in _STATUS_FINAL) or status < 300:
        busy = code in _BUSY or status in _STATUS_BUSY
        return Again(said, after=retry_after(asked, now), busy=busy, sent=sent)
    if verb == "write" and status in (409, 412):
        return Taken(said)
    if verb == "read" and status == 404 and code != "NoSuchBucket":
        return Missing(f"The store has no {call.name}.")
    return Refused(
        f"The store refused to {verb} {call.name}: {said}.",
        remedy=_REMEDIES.get(code, "Check the bucket, its rights and its region on the control side, then run the command again."),
    )


def taken(call: Call, place: str) -> Exists:
    return Exists(f"{place} already has {call.name}.", safe="It was left as it is.")
