"""URLs of Google Cloud Storage: `gs://bucket/prefix`, with `?endpoint=https://HOST` for an endpoint that is not the public one."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import parse_qsl, quote

from torpor.errors import UsageError
from torpor.storage.base import NAME_MAX, is_name
from torpor.storage.urls import split

PUBLIC = "https://storage.googleapis.com"

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_ENDPOINT = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?/?")
_LONGEST_PREFIX = 1024 - NAME_MAX - 1  # names of objects have up to 1024 bytes
_REMEDY = "Write gs://BUCKET/PREFIX; credentials belong into a file that GOOGLE_APPLICATION_CREDENTIALS names (docs/providers.md)."


class Place(NamedTuple):
    """A bucket, or what is below a prefix of it. `prefix` is empty or ends with a slash; `endpoint` has no slash at its end."""

    url: str
    bucket: str
    prefix: str
    endpoint: str


def parse(url: str) -> Place:
    """Read a `gs:` URL. `UsageError` says what is wrong without repeating it, since a secret may have slipped in."""
    parts = split(url, "The gs: URL", _REMEDY)
    if "@" in parts.netloc or ":" in parts.netloc:
        raise UsageError("A gs: URL holds a bucket and no credentials or port.", remedy=_REMEDY)
    if parts.fragment or not _BUCKET.fullmatch(parts.netloc):
        raise UsageError("A gs: URL begins with gs://, a bucket's name and nothing else.", remedy=_REMEDY)
    prefix = parts.path.strip("/")
    if prefix and not (len(prefix) <= _LONGEST_PREFIX and all(is_name(part) for part in prefix.split("/"))):
        raise UsageError(
            "The prefix after the bucket's name has components of letters, digits and . _ - only, none of which begins with a dot.",
            remedy=_REMEDY,
        )
    endpoint = ""
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key != "endpoint":
            raise UsageError("The gs: URL has an option that is not known.", remedy="The one option is endpoint=https://HOST.")
        endpoint = _endpoint(value)
    prefix = prefix and prefix + "/"
    return Place(
        url=f"gs://{parts.netloc}{'/' + quote(prefix[:-1]) if prefix else ''}{'?endpoint=' + endpoint if endpoint else ''}",
        bucket=parts.netloc,
        prefix=prefix,
        endpoint=endpoint or PUBLIC,
    )


def _endpoint(value: str) -> str:
    if not _ENDPOINT.fullmatch(value):
        raise UsageError("The endpoint of the gs: URL is none.", remedy="Write ?endpoint=https://HOST, with nothing after it.")
    parts = split(value, "The endpoint of the gs: URL", "Write ?endpoint=https://HOST, with nothing after it.", port=True)
    if parts.scheme == "http" and not _is_local(parts.hostname or ""):
        raise UsageError(
            "The endpoint of the gs: URL is not encrypted, and a token would go there in clear.", remedy="Write ?endpoint=https://HOST."
        )
    return value.rstrip("/")


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
