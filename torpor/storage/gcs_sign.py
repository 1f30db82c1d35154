"""V4 signed URLs of Google Cloud Storage: a request that whoever holds the URL may make, and no other, until it ends.

The signature covers method, path, query and the headers given here; the service refuses any other `x-goog-` header, so a host can
neither drop the condition that it overwrites nothing nor add a copy. A body is not signed, so no `Content-MD5` may come with it: it
would have to be signed too.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LONGEST = 7 * 24 * 3600  # seconds; the service's own limit


class Signer:
    """Signs for one service account. `sign` makes its RSA signature (PKCS #1 v1.5, SHA-256) of some bytes."""

    def __init__(self, endpoint: str, email: str, sign: Callable[[bytes], bytes]) -> None:
        self._endpoint = endpoint
        self._host = urlsplit(endpoint).netloc
        self._email = email
        self._sign = sign

    def url(self, method: str, path: str, start: float, seconds: int, headers: Mapping[str, str]) -> str:
        """A URL valid for `seconds` (1 to `LONGEST`) from `start`, seconds since 1970. `path`: `/bucket/object`, unquoted."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(start))
        scope = f"{stamp[:8]}/auto/storage/goog4_request"
        signed = {"host": self._host, **{key.lower(): " ".join(value.split()) for key, value in headers.items()}}
        names = ";".join(sorted(signed))
        query = "&".join(
            f"{key}={quote(value, safe='~')}"
            for key, value in [
                ("X-Goog-Algorithm", "GOOG4-RSA-SHA256"),
                ("X-Goog-Credential", f"{self._email}/{scope}"),
                ("X-Goog-Date", stamp),
                ("X-Goog-Expires", str(seconds)),
                ("X-Goog-SignedHeaders", names),
            ]
        )
        path = quote(path, safe="/~")
        lines = "".join(f"{key}:{signed[key]}\n" for key in sorted(signed))
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
        text = f"GOOG4-RSA-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        return f"{self._endpoint}{path}?{query}&X-Goog-Signature={self._sign(text.encode()).hex()}"
