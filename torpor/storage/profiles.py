"""What is known of each service that speaks S3: names, endpoints, and what it can do. Data only; docs/providers.md has the sources."""

from __future__ import annotations

import re
from typing import NamedTuple

_REGION = re.compile(r"s3[.-](?:dualstack\.|fips\.)?([a-z0-9]+(?:-[a-z0-9]+)+)\.(?:amazonaws|wasabisys|backblazeb2)\.com")


class Profile(NamedTuple):
    """One service.

    `key`, `secret`, `token`, `endpoint_from`, `region_from`: names of environment values, the first that is set counts.
    `hosts`: how the host names of its endpoints end. `endpoint`: where no other is given; `{region}` is filled in; empty: boto3 knows
    it (`finds_endpoint`), or it must be given. `region`: where none is given; empty: the bucket's own is asked for.
    `conditional_put`: it decides `If-None-Match: *` on PUT. `other_keys`: boto3's own search for credentials serves when none of
    the names is set.
    """

    provider: str
    title: str
    hosts: tuple[str, ...]
    key: tuple[str, ...]
    secret: tuple[str, ...]
    token: tuple[str, ...] = ()
    endpoint_from: tuple[str, ...] = ()
    region_from: tuple[str, ...] = ()
    endpoint: str = ""
    finds_endpoint: bool = False
    region: str = "us-east-1"
    conditional_put: bool = False
    other_keys: bool = False


AWS = Profile(
    provider="aws",
    title="Amazon S3",
    hosts=(".amazonaws.com", ".amazonaws.com.cn"),
    key=("AWS_ACCESS_KEY_ID",),
    secret=("AWS_SECRET_ACCESS_KEY",),
    token=("AWS_SESSION_TOKEN",),
    endpoint_from=("S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    region_from=("AWS_REGION", "AWS_DEFAULT_REGION", "S3_REGION"),
    finds_endpoint=True,
    region="",
    conditional_put=True,
    other_keys=True,
)
PROFILES = {
    "aws": AWS,
    "r2": Profile(
        provider="r2",
        title="Cloudflare R2",
        hosts=(".r2.cloudflarestorage.com",),
        key=("R2_ACCESS_KEY", "R2_ACCESS_KEY_ID"),
        secret=("R2_SECRET_KEY", "R2_SECRET_ACCESS_KEY"),
        token=("R2_SESSION_TOKEN",),
        endpoint_from=("R2_ENDPOINT",),
        region="auto",
        conditional_put=True,
    ),
    "wasabi": Profile(
        provider="wasabi",
        title="Wasabi",
        hosts=(".wasabisys.com",),
        key=("WASABI_ACCESS_KEY", "WASABI_ACCESS_KEY_ID"),
        secret=("WASABI_SECRET_KEY", "WASABI_SECRET_ACCESS_KEY"),
        token=("WASABI_SESSION_TOKEN",),
        endpoint_from=("WASABI_ENDPOINT",),
        region_from=("WASABI_REGION",),
        endpoint="https://s3.{region}.wasabisys.com",
    ),
    "b2": Profile(
        provider="b2",
        title="Backblaze B2 over S3",
        hosts=(".backblazeb2.com",),
        key=("B2_KEY_ID",),
        secret=("B2_APPLICATION_KEY",),
        endpoint_from=("B2_ENDPOINT",),
    ),
    "s3": AWS._replace(provider="s3", title="The S3 endpoint", hosts=(), finds_endpoint=False, region="us-east-1", conditional_put=False),
}
# By the scheme of a URL; `s3:` is for whatever its endpoint shows.
SCHEMES = {"r2": "r2", "wasabi": "wasabi"}


def recognise(host: str) -> Profile:
    """Whose endpoint a host name is; `s3` for one that nothing more is known of."""
    dotted = "." + host.lower()
    return next((found for found in PROFILES.values() if dotted.endswith(found.hosts or ("\0",))), PROFILES["s3"])


def region_of(host: str) -> str:
    """The region that an endpoint's host name tells; empty if none."""
    found = _REGION.match(host.lower())
    return found[1] if found else ""
