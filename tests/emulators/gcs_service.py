"""The objects, tokens and signatures of the emulated Google Cloud Storage: what it keeps, and what it refuses."""

from __future__ import annotations

import base64
import calendar
import hashlib
import json
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import google_crc32c
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from torpor.clock import Clock, rfc3339

SEVEN_DAYS = 7 * 24 * 3600
SKEW = 900
AUDIENCE = "https://oauth2.googleapis.com/token"  # whatever `token_uri` says


class Refusal(Exception):
    """An answer that is an error. `code` is the XML API's word for it, `reason` the JSON API's."""

    def __init__(self, status: int, reason: str, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.code, self.headers = status, reason, message, code or reason, dict(headers or {})


class Stored(NamedTuple):
    """One object. `generation` grows with each write of any object."""

    data: bytes
    generation: int
    created: float
    metadata: Mapping[str, str] = MappingProxyType({})

    @property
    def md5(self) -> str:
        return base64.b64encode(hashlib.md5(self.data, usedforsecurity=False).digest()).decode()

    @property
    def crc32c(self) -> str:
        return base64.b64encode(int(google_crc32c.value(self.data)).to_bytes(4, "big")).decode()


class Service:
    """One bucket and one service account. `clock` dates objects, ends signatures and tokens."""

    def __init__(self, bucket: str, email: str, key: rsa.RSAPublicKey, clock: Clock) -> None:
        self.bucket, self.email, self.key, self.clock = bucket, email, key, clock
        self.lock = threading.Lock()
        self.objects: dict[str, Stored] = {}
        self.tokens: dict[str, float] = {}
        self._generation = 1_700_000_000_000_000

    # objects

    def check_bucket(self, bucket: str) -> None:
        if bucket != self.bucket:
            raise Refusal(404, "notFound", "The specified bucket does not exist.", "NoSuchBucket")

    def find(self, name: str) -> Stored:
        found = self.objects.get(name)
        if found is None:
            raise Refusal(404, "notFound", f"No such object: {self.bucket}/{name}", "NoSuchKey")
        return found

    def write(self, name: str, data: bytes, match: str | None, md5: str | None, metadata: Mapping[str, str] | None = None) -> Stored:
        """`match`: the generation that must be there, "0" for none; `md5`: what the data must have, in base64."""
        stored = Stored(data, 0, 0.0, metadata or {})
        if md5 is not None and md5 != stored.md5:
            message = f'Provided MD5 hash "{md5}" doesn\'t match calculated MD5 hash "{stored.md5}".'
            raise Refusal(400, "invalid", message, "BadDigest")
        with self.lock:
            there = self.objects.get(name)
            if match is not None and int(match) != (there.generation if there else 0):
                raise Refusal(
                    412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.", "PreconditionFailed"
                )
            self._generation += 1
            self.objects[name] = stored = stored._replace(generation=self._generation, created=self.clock.now())
            return stored

    def delete(self, name: str) -> None:
        with self.lock:
            self.find(name)
            del self.objects[name]

    # tokens

    def issue(self, form: dict[str, str]) -> dict[str, Any]:
        """A token for an assertion (RFC 7523) that the service account signed."""
        head, payload, signature = form.get("assertion", "..").split(".")
        try:
            self.key.verify(_unpadded(signature), f"{head}.{payload}".encode(), padding.PKCS1v15(), hashes.SHA256())
            claims = json.loads(_unpadded(payload))
        except (InvalidSignature, ValueError):
            raise Refusal(400, "invalid_grant", "Invalid JWT Signature.") from None
        now = self.clock.now()
        if claims["iss"] != self.email or claims["aud"] != AUDIENCE or not claims["iat"] - SKEW <= now < claims["exp"]:
            raise Refusal(400, "invalid_grant", "Invalid JWT.")
        if "https://www.googleapis.com/auth/devstorage.read_write" not in claims["scope"].split():
            raise Refusal(400, "invalid_scope", "Invalid scope.")
        token = hashlib.sha256(f"{form['assertion']} {len(self.tokens)}".encode()).hexdigest()
        self.tokens[token] = now + 3600
        return {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}

    def check_token(self, header: str) -> None:
        if self.tokens.get(header.removeprefix("Bearer "), 0.0) <= self.clock.now():
            raise Refusal(401, "authError", "Invalid Credentials")

    # signatures

    def check_signature(self, method: str, path: str, query: str, headers: Mapping[str, str]) -> None:
        """A V4 signed URL, by Google's description of canonical requests. `path` and `query` as they were sent, header names in small."""
        given = dict(parse_qsl(query, keep_blank_values=True))
        if "X-Goog-Signature" not in given:
            raise Refusal(403, "forbidden", "Anonymous caller does not have storage.objects access.", "AccessDenied")
        date, expires, names = given.get("X-Goog-Date", ""), int(given.get("X-Goog-Expires", "0")), given.get("X-Goog-SignedHeaders", "")
        scope = f"{date[:8]}/auto/storage/goog4_request"
        if given.get("X-Goog-Algorithm") != "GOOG4-RSA-SHA256" or not 1 <= expires <= SEVEN_DAYS:
            raise Refusal(400, "invalid", "Invalid argument.", "InvalidArgument")
        if given.get("X-Goog-Credential") != f"{self.email}/{scope}":
            raise Refusal(403, "forbidden", "Access denied.", "AccessDenied")
        signed = names.split(";")
        special = [name for name in headers if name.startswith("x-goog-") or name in ("content-md5", "content-type")]
        extra = [name for name in special if name not in signed]
        if "host" not in signed or extra or any(name not in headers for name in signed):
            raise Refusal(400, "invalid", f"Your request has a malformed header: {extra or signed}", "MalformedSecurityHeader")
        rest = "&".join(sorted(part for part in query.split("&") if not part.startswith("X-Goog-Signature=")))
        lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(signed))
        canonical = f"{method}\n{path}\n{rest}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
        text = f"GOOG4-RSA-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        try:
            self.key.verify(bytes.fromhex(given["X-Goog-Signature"]), text.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, ValueError):
            raise Refusal(403, "forbidden", "Access denied.", "SignatureDoesNotMatch") from None
        start = _seconds(date)
        if self.clock.now() >= start + expires:
            raise Refusal(400, "invalid", f"The provided token has expired: {rfc3339(start + expires)}", "ExpiredToken")
        if self.clock.now() < start - SKEW:
            raise Refusal(403, "forbidden", "The request's time is too far in the future.", "RequestTimeTooSkewed")


def _seconds(date: str) -> float:
    return float(calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ")))


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
