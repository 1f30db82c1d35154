"""URLs of the S3 family: `s3://bucket/prefix?endpoint=…&region=…`, `r2://…`, `wasabi://…`, and whose credentials go with them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

from torpor.errors import UsageError
from torpor.settings import Secret
from torpor.storage.base import NAME_MAX, is_name
from torpor.storage.profiles import AWS, PROFILES, SCHEMES, Profile, recognise, region_of
from torpor.storage.urls import split

if TYPE_CHECKING:
    from torpor.access import Access

_OPTIONS = {
    "endpoint": re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?/?|https?://\[[0-9a-fA-F:.]+\](:\d{1,5})?/?"),
    "region": re.compile(r"[a-z0-9-]{1,40}"),
    "provider": re.compile("|".join(PROFILES)),
    "conditional": re.compile("yes|no"),
    "digest": re.compile("md5|none"),
    "style": re.compile("path|virtual"),
}
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_LONGEST_PREFIX = 1024 - NAME_MAX - 1  # keys have up to 1024 bytes


class Place(NamedTuple):
    """A bucket, or what is below a prefix of it. `prefix` is empty or ends with a slash; `region` is empty if it must be asked for.

    `endpoint` is empty if boto3 knows it. `digest`: the kind of an `ETag`. `style`: how a bucket is addressed; "auto" is boto3's way.
    """

    url: str
    profile: Profile
    bucket: str
    prefix: str
    endpoint: str
    region: str
    conditional_put: bool
    digest: Literal["md5", "none"]
    style: str

    def key(self, name: str) -> dict[str, str]:
        """Where the object of that name is, as boto3's calls take it."""
        return {"Bucket": self.bucket, "Key": self.prefix + name}


class Account(NamedTuple):
    """Credentials. `key` is the name of one, and no secret."""

    key: str
    secret: Secret
    token: Secret


def parse(url: str, access: Access) -> Place:
    """Read a URL of the family. `UsageError` says what is wrong without repeating it, since a secret may have slipped in."""
    scheme = url.partition(":")[0]
    parts = split(url, f"The {scheme}: URL", _remedy(scheme))
    if "@" in parts.netloc or ":" in parts.netloc:
        raise UsageError(f"A {scheme}: URL holds a bucket and no credentials or port.", remedy=_remedy(scheme))
    if parts.fragment or not _BUCKET.fullmatch(parts.netloc):
        raise UsageError(f"A {scheme}: URL begins with {scheme}://, a bucket's name and nothing else.", remedy=_remedy(scheme))
    prefix = parts.path.strip("/")
    if prefix and not (len(prefix) <= _LONGEST_PREFIX and all(is_name(part) for part in prefix.split("/"))):
        raise UsageError(
            "The prefix after the bucket's name has components of letters, digits and . _ - only, none of which begins with a dot.",
            remedy=_remedy(scheme),
        )
    given = _options(scheme, parts.query)
    profile = PROFILES[SCHEMES[scheme]] if scheme in SCHEMES else None
    if "provider" in given:
        if profile is not None and profile.provider != given["provider"]:
            raise UsageError(f"A {scheme}: URL is {profile.title}'s and cannot be another provider's.", remedy="Write s3://…&provider=….")
        profile = PROFILES[given["provider"]]
    if not given.get("endpoint") and (from_environment := access.get(*(profile or AWS).endpoint_from)):
        if not _OPTIONS["endpoint"].fullmatch(from_environment):
            raise UsageError(f"{(profile or AWS).endpoint_from[0]} is not the URL of an endpoint.", remedy="Write https://HOST.")
        given["endpoint"] = from_environment
    endpoint = given.get("endpoint", "").rstrip("/")
    host = split(endpoint, "The endpoint", "Write https://HOST.", port=True).hostname or ""
    if profile is None:
        profile = recognise(host) if endpoint else AWS
    if not given.get("region") and (known := region_of(host) or access.get(*profile.region_from)):
        if not _OPTIONS["region"].fullmatch(known):
            raise UsageError(f"{profile.region_from[0]} is not a region's name.")
        given["region"] = known
    region = given.get("region") or profile.region or ("us-east-1" if endpoint else "")
    shown = {key: value for key, value in given.items() if not (key == "region" and value == region_of(host))}
    endpoint = endpoint or profile.endpoint.format(region=region)
    if not endpoint and not profile.finds_endpoint:
        names = f"{' or '.join(profile.endpoint_from)} in the environment, or ?endpoint=https://… in the URL"
        raise UsageError(f"{profile.title} needs an endpoint.", remedy=f"Set {names}.")
    prefix = prefix and prefix + "/"
    query = urlencode({**shown, **({"endpoint": endpoint} if "endpoint" in shown else {})}, safe=":/[]")
    return Place(
        url=f"{scheme}://{parts.netloc}{'/' + quote(prefix[:-1]) if prefix else ''}{'?' + query if query else ''}",
        profile=profile,
        bucket=parts.netloc,
        prefix=prefix,
        endpoint=endpoint,
        region=region,
        conditional_put=given["conditional"] == "yes" if "conditional" in given else profile.conditional_put,
        digest="none" if given.get("digest") == "none" else "md5",
        style=given.get("style") or ("path" if endpoint else "auto"),
    )


def account(place: Place, access: Access) -> Account | None:
    """The credentials that the environment names for this place; None where boto3's own search is to find some.

    `UsageError` names what is missing. An `s3:` URL of a service with names of its own takes those, else the AWS ones.
    """
    own = place.profile
    names = [own] if not place.url.startswith("s3:") or own.key == AWS.key else [own, AWS]
    for profile in names:
        key, secret = access.get(*profile.key), access.get(*profile.secret)
        if key and secret:
            return Account(key, Secret(secret), Secret(access.get(*profile.token) if profile.token else ""))
        if key or secret:
            missing = profile.secret[0] if key else profile.key[0]
            raise UsageError(f"{place.profile.title} needs {missing}, which is not set.", remedy=f"Set {missing} in the environment.")
    if own.other_keys:
        return None
    raise UsageError(
        f"{own.title} needs {own.key[0]} and {own.secret[0]}, which are not set.", remedy=f"Set {own.key[0]} and {own.secret[0]}."
    )


def _options(scheme: str, query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    for key, value in pairs:
        if key not in _OPTIONS or not _OPTIONS[key].fullmatch(value):
            what = f"has a value of {key} that is not allowed" if key in _OPTIONS else "has an option that is not known"
            raise UsageError(f"The {scheme}: URL {what}.", remedy=f"Options are: {', '.join(_OPTIONS)} (docs/providers.md).")
    return dict(pairs)


def _remedy(scheme: str) -> str:
    return f"Write {scheme}://BUCKET/PREFIX?endpoint=https://HOST; credentials belong into the environment (docs/providers.md)."
