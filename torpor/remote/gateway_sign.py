"""URLs that a gateway gives out and takes back: one method, one object, until a time, for one scope. Pure but for the secret."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import NamedTuple

from torpor.storage.base import is_name

TARGET_MAX = 1024  # characters; the longest that is given out has some 400

_TARGET = re.compile(r"/([A-Za-z0-9._/-]{1,200})\?expires=(\d{1,17})&method=(GET|PUT)&scope=([0-9a-f]{16})&sig=([0-9a-f]{64})\Z")


class Wanted(NamedTuple):
    """What a request may do, its signature being true. `expires`: seconds since 1970; 0: as long as its scope."""

    method: str
    name: str
    scope: str
    expires: int


class Signer:
    """Signs and checks by HMAC-SHA256 with a secret that this process alone has, and that ends with it."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def target(self, method: str, name: str, scope: str, expires: int) -> str:
        """The path and query for one request. `name`: the object's in full."""
        return f"/{name}?expires={expires}&method={method}&scope={scope}&sig={self._sign(method, name, scope, expires)}"

    @staticmethod
    def is_one(target: str) -> bool:
        """Whether some gateway may have made it, which need not have been this one."""
        return len(target) <= TARGET_MAX and _TARGET.match(target) is not None

    def read(self, method: str, target: str) -> Wanted | None:
        """None unless the target was made by `target`, byte for byte, for this method. What may be read may be asked for its head.

        Nothing in it is decoded: a name that would have to be is none that was signed.
        """
        found = _TARGET.match(target) if len(target) <= TARGET_MAX else None
        if found is None:
            return None
        name, expires, signed, scope, given = found.groups()
        if not hmac.compare_digest(given, self._sign(signed, name, scope, int(expires))):
            return None
        if not is_name(name) or signed != {"HEAD": "GET"}.get(method, method):
            return None
        return Wanted(signed, name, scope, int(expires))

    def _sign(self, method: str, name: str, scope: str, expires: int) -> str:
        text = f"{method}\n{name}\n{scope}\n{expires}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()


def scope_of(url: str) -> str:
    """The scope in a URL that was given out; empty if there is none."""
    found = re.search(r"&scope=([0-9a-f]{16})&", url)
    return found[1] if found else ""
