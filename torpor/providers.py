"""Storage by the names that people already have in their environment: `STORAGE_PROVIDER` and a bucket make a storage URL. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from torpor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?")


class Provider(NamedTuple):
    """`bucket`: the names of which one must hold the bucket, with a prefix if there is one. `needed`: groups; one of each must be set."""

    scheme: str
    bucket: tuple[str, ...]
    needed: tuple[tuple[str, ...], ...] = ()


PROVIDERS = {
    "b2": Provider("b2", ("B2_BUCKET",), (("B2_KEY_ID",), ("B2_APPLICATION_KEY",))),
    "gcs": Provider("gs", ("GCS_BUCKET",)),
    "r2": Provider(
        "r2", ("R2_BUCKET",), (("R2_ENDPOINT",), ("R2_ACCESS_KEY", "R2_ACCESS_KEY_ID"), ("R2_SECRET_KEY", "R2_SECRET_ACCESS_KEY"))
    ),
    "s3": Provider("s3", ("S3_BUCKET", "AWS_BUCKET")),
    "wasabi": Provider(
        "wasabi",
        ("WASABI_BUCKET",),
        (("WASABI_ACCESS_KEY", "WASABI_ACCESS_KEY_ID"), ("WASABI_SECRET_KEY", "WASABI_SECRET_ACCESS_KEY")),
    ),
}


def storage_url(provider: str, environ: Mapping[str, str]) -> str:
    """The storage URL of a provider, by its variables; empty for `local`, whose folder is the caller's to choose.

    `UsageError` for a provider that is not known, and for variables that are missing, all of them by name. Values are not shown.
    """
    if provider == "local":
        return ""
    found = PROVIDERS.get(provider)
    if found is None:
        raise UsageError(
            f"STORAGE_PROVIDER={provider[:40]!a} is not known.", remedy=f"Use one of: {', '.join(sorted([*PROVIDERS, 'local']))}."
        )
    missing = [names[0] for names in (found.bucket, *found.needed) if not any(environ.get(name) for name in names)]
    if missing:
        raise UsageError(
            f"STORAGE_PROVIDER={provider} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not set.",
            remedy="Set what is missing, or give --storage (docs/providers.md).",
        )
    name = next(name for name in found.bucket if environ.get(name))
    if not _BUCKET.fullmatch(environ[name]):
        raise UsageError(f"{name} is not the name of a bucket.", remedy="Write the bare name, or BUCKET/PREFIX: not a URL.")
    return f"{found.scheme}://{environ[name].rstrip('/')}"


_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/*)([^?#]*)(?:\?([^#]*))?(#.*)?", re.DOTALL)
_OPTIONS = ("conditional", "digest", "endpoint", "provider", "realm", "region", "style")  # of storage URLs: none is a secret


def shown(url: str) -> str:
    """A storage URL as it may be repeated: without what could be a secret in it. A URL without one, and a path, stay as they are."""
    found = _URL.fullmatch(url)
    if found is None or found[1].lower().startswith("file:"):
        return url
    scheme, place, query, fragment = found.groups()
    host, slash, path = place.partition("/")
    if "@" in place:
        place = "…@" + place.rpartition("@")[2]
    elif ":" in host:
        place = "…" + slash + path
    options = "" if query is None else "?" + "&".join(map(_option, query.split("&")))
    return scheme + place + options + ("#…" if fragment else "")


def _option(text: str) -> str:
    key, equals, value = text.partition("=")
    if not equals or key not in _OPTIONS:
        return key + "=…" if equals else "…"
    return f"{key}=…@{value.rpartition('@')[2]}" if "@" in value else text
