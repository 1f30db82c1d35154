"""Signature version 4 in a URL's query: requests that a host can send without credentials, until a moment and no longer.

Made here, because boto3's own way cannot end at a given moment, and logs what it signs.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

from torpor.settings import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 7 * 24 * 3600  # seconds; the protocol's own limit


class Signer(NamedTuple):
    """`key` is the name of the credentials; `token` is empty unless they are temporary."""

    key: str
    secret: Secret
    token: Secret
    region: str

    def sign(self, method: str, url: str, start: float, seconds: int, headers: Mapping[str, str]) -> str:
        """The URL with a signature: valid for `seconds` (1 to `LONGEST`) from `start` (seconds since 1970) on.

        `url` has no query, and a path in which nothing need be encoded. `headers` are part of what is signed: the request counts
        only with just these values.
        """
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(start))
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        parts = urlsplit(url)
        host = parts.netloc.removesuffix({"http": ":80", "https": ":443"}[parts.scheme])  # as clients send it
        signed = sorted({"host": host, **{name.lower(): value for name, value in headers.items()}}.items())
        names = ";".join(name for name, _ in signed)
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.key}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": names,
        }
        if self.token:
            query["X-Amz-Security-Token"] = self.token.reveal()
        text = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
        lines = [method, parts.path, text, *(f"{name}:{value}" for name, value in signed), "", names, "UNSIGNED-PAYLOAD"]
        what = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        signature = hmac.new(self._key_of(scope), f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{what}".encode(), hashlib.sha256)
        return f"{url}?{text}&X-Amz-Signature={signature.hexdigest()}"

    def _key_of(self, scope: str) -> bytes:
        key = b"AWS4" + self.secret.reveal().encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key
