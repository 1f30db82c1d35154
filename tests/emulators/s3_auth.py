"""Whether a request is signed as S3 wants it. Signatures are made again by botocore's own signers and compared."""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

LONGEST = 7 * 24 * 3600
SKEW = 900  # seconds that clocks may differ
_HEADER = re.compile(r"AWS4-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})")


class Key(NamedTuple):
    """Credentials that the emulator knows. `expires`: when a temporary one ends, in seconds since 1970; 0: never."""

    secret: str
    token: str = ""
    expires: float = 0.0


class Wrong(Exception):
    """The request is refused with this answer."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message or code


class Signed(NamedTuple):
    key: str
    scope: list[str]
    headers: list[str]
    signature: str
    stamp: str


def check(
    method: str, url: str, headers: Mapping[str, str], body: bytes, keys: Mapping[str, Key], regions: tuple[str, ...], now: float
) -> None:
    """Raise `Wrong` unless the request is signed with one of the keys, for one of the regions, and is valid at that time."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    lower = {name.lower(): value for name, value in headers.items()}
    by_query = "X-Amz-Signature" in query
    signed = _by_query(query) if by_query else _by_header(lower)
    if signed.key not in keys:
        raise Wrong(403, "InvalidAccessKeyId")
    key = keys[signed.key]
    if signed.scope[2:] != ["s3", "aws4_request"] or signed.scope[0] != signed.stamp[:8] or signed.scope[1] not in regions:
        raise Wrong(400, "AuthorizationQueryParametersError" if by_query else "AuthorizationHeaderMalformed")
    token = query.get("X-Amz-Security-Token", "") if by_query else lower.get("x-amz-security-token", "")
    if token != key.token:
        raise Wrong(400 if token else 403, "InvalidToken" if token else "InvalidAccessKeyId")
    if key.expires and now >= key.expires:
        raise Wrong(400, "ExpiredToken")
    if not hmac.compare_digest(_again(method, parts.geturl(), lower, signed, key, by_query), signed.signature):
        raise Wrong(403, "SignatureDoesNotMatch")
    special = {name for name in lower if name.startswith("x-amz-") or name == "content-md5"}
    unsigned = special - set(signed.headers) - {"x-amz-content-sha256"}
    if "host" not in signed.headers or unsigned:
        raise Wrong(403, "AccessDenied", "There were headers present in the request which were not signed")
    _check_time(query, signed.stamp, now, by_query)
    promised = lower.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
    if promised != "UNSIGNED-PAYLOAD" and promised != hashlib.sha256(body).hexdigest():
        raise Wrong(400, "XAmzContentSHA256Mismatch")


def _by_query(query: dict[str, str]) -> Signed:
    try:
        key, *scope = query["X-Amz-Credential"].split("/")
        names = query["X-Amz-SignedHeaders"].split(";")
        found = Signed(key, scope, names, query["X-Amz-Signature"], query["X-Amz-Date"])
        seconds = int(query["X-Amz-Expires"])
    except (KeyError, ValueError):
        raise Wrong(400, "AuthorizationQueryParametersError") from None
    if query.get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256" or len(scope) != 4 or not 1 <= seconds <= LONGEST:
        raise Wrong(400, "AuthorizationQueryParametersError")
    return found


def _by_header(lower: dict[str, str]) -> Signed:
    if "authorization" not in lower:
        raise Wrong(403, "AccessDenied")
    found = _HEADER.fullmatch(lower["authorization"])
    key, *scope = found[1].split("/") if found else [""]
    if found is None or len(scope) != 4 or "x-amz-date" not in lower or "x-amz-content-sha256" not in lower:
        raise Wrong(400, "AuthorizationHeaderMalformed")
    return Signed(key, scope, found[2].split(";"), found[3], lower["x-amz-date"])


def _again(method: str, url: str, lower: dict[str, str], signed: Signed, key: Key, by_query: bool) -> str:
    """The signature that the request should have."""
    credentials = Credentials(signed.key, key.secret, key.token or None)
    if by_query:
        signer = S3SigV4QueryAuth(credentials, "s3", signed.scope[1])
        url = re.sub(r"[?&]X-Amz-Signature=[0-9a-f]*", "", url)
    else:
        signer = S3SigV4Auth(credentials, "s3", signed.scope[1])
    request = AWSRequest(method, url, headers={name: lower.get(name, "") for name in signed.headers})
    request.context["timestamp"] = signed.stamp
    if not by_query and "x-amz-content-sha256" not in signed.headers:
        raise Wrong(403, "AccessDenied", "There were headers present in the request which were not signed")
    again: str = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    return again


def _check_time(query: dict[str, str], stamp: str, now: float, by_query: bool) -> None:
    try:
        start = calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise Wrong(403, "AccessDenied", "The date is not valid") from None
    if not by_query and abs(now - start) > SKEW:
        raise Wrong(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
    if by_query and now < start - SKEW:
        raise Wrong(403, "AccessDenied", "Request is not yet valid")
    if by_query and now >= start + int(query["X-Amz-Expires"]):
        raise Wrong(403, "AccessDenied", "Request has expired")
