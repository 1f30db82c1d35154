from __future__ import annotations

import pytest

from torpor.access import Access
from torpor.errors import UsageError
from torpor.storage.s3_place import account, parse

HIDDEN = "hunter2hunter2"


@pytest.mark.parametrize(
    ("url", "environ", "provider", "endpoint", "region", "style"),
    [
        ("s3://b", {}, "aws", "", "", "auto"),
        ("s3://b?region=eu-west-1", {}, "aws", "", "eu-west-1", "auto"),
        ("s3://b", {"AWS_DEFAULT_REGION": "eu-west-1"}, "aws", "", "eu-west-1", "auto"),
        ("s3://b?endpoint=https://s3.eu-west-1.amazonaws.com", {}, "aws", "https://s3.eu-west-1.amazonaws.com", "eu-west-1", "path"),
        ("s3://b?endpoint=https://minio.example:9000/", {}, "s3", "https://minio.example:9000", "us-east-1", "path"),
        ("s3://b", {"AWS_ENDPOINT_URL": "http://[::1]:9000"}, "s3", "http://[::1]:9000", "us-east-1", "path"),
        ("s3://b?endpoint=https://x.example&provider=aws", {}, "aws", "https://x.example", "us-east-1", "path"),
        ("s3://b?endpoint=https://x.example&style=virtual", {}, "s3", "https://x.example", "us-east-1", "virtual"),
        ("r2://b", {"R2_ENDPOINT": "https://a.r2.cloudflarestorage.com"}, "r2", "https://a.r2.cloudflarestorage.com", "auto", "path"),
        ("s3://b?endpoint=https://a.r2.cloudflarestorage.com", {}, "r2", "https://a.r2.cloudflarestorage.com", "auto", "path"),
        ("wasabi://b", {}, "wasabi", "https://s3.us-east-1.wasabisys.com", "us-east-1", "path"),
        ("wasabi://b", {"WASABI_REGION": "eu-central-2"}, "wasabi", "https://s3.eu-central-2.wasabisys.com", "eu-central-2", "path"),
        ("s3://b?endpoint=https://s3.wasabisys.com", {}, "wasabi", "https://s3.wasabisys.com", "us-east-1", "path"),
        (
            "s3://b?endpoint=https://s3.us-west-004.backblazeb2.com",
            {},
            "b2",
            "https://s3.us-west-004.backblazeb2.com",
            "us-west-004",
            "path",
        ),
        ("s3://b?endpoint=https://notbackblazeb2.com", {}, "s3", "https://notbackblazeb2.com", "us-east-1", "path"),
    ],
)
def test_a_url_tells_whose_it_is(url: str, environ: dict[str, str], provider: str, endpoint: str, region: str, style: str) -> None:
    place = parse(url.replace("//b", "//bucket"), Access(environ))
    assert (place.profile.provider, place.endpoint, place.region, place.style) == (provider, endpoint, region, style)
    assert (place.bucket, place.prefix, place.digest) == ("bucket", "", "md5")
    assert place.conditional_put is (provider in ("aws", "r2"))
    assert parse(place.url, Access()) == place  # it needs no environment to be found again


def test_prefixes_and_options() -> None:
    place = parse("s3://my.bucket/a/b-c/?conditional=no&digest=none&region=eu-north-1", Access())
    assert (place.bucket, place.prefix, place.conditional_put, place.digest) == ("my.bucket", "a/b-c/", False, "none")
    assert place.key("x/y") == {"Bucket": "my.bucket", "Key": "a/b-c/x/y"}
    assert place.url == "s3://my.bucket/a/b-c?conditional=no&digest=none&region=eu-north-1"
    assert parse("s3://bucket?endpoint=https://x.example&conditional=yes", Access()).conditional_put


@pytest.mark.parametrize(
    "url",
    [
        f"s3://key:{HIDDEN}@bucket/x",
        f"s3://{HIDDEN}@bucket",
        "s3://bucket:80/x",
        "s3://bucket?endpoint=http://[::::1]:9",
        "s3://bucket?endpoint=http://host:99999",
        "s3://[::::1]",
        "s3://",
        "s3:bucket",
        "s3:///bucket",
        "s3://b",
        "s3://-bucket",
        f"s3://bucket#{HIDDEN}",
        f"s3://bucket?secret={HIDDEN}",
        f"s3://bucket?{HIDDEN}",
        f"s3://bucket?endpoint=https://key:{HIDDEN}@x.example",
        "s3://bucket?endpoint=https://x.example/path",
        "s3://bucket?endpoint=ftp://x.example",
        "s3://bucket?endpoint=",
        f"s3://bucket?region={HIDDEN.upper()}",
        "s3://bucket?provider=gcs",
        "s3://bucket?provider=r2",
        "r2://bucket?provider=aws",
        "r2://bucket",
        "s3://bucket/a/../b",
        "s3://bucket/a//b",
        "s3://bucket/.a",
        "s3://bucket/a%2fb",
        "s3://bucket/" + "x/" * 500,
    ],
)
def test_what_is_no_place_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(url, Access())
    assert caught.value.remedy
    assert HIDDEN not in str(caught.value).lower()


def test_an_environment_that_is_no_endpoint_is_named() -> None:
    with pytest.raises(UsageError):
        parse("r2://bucket", Access({"R2_ENDPOINT": "https://[::::1]"}))
    with pytest.raises(UsageError, match="R2_ENDPOINT"):
        parse("r2://bucket", Access({"R2_ENDPOINT": f"https://key:{HIDDEN}@x.example"}))


R2 = {"R2_ACCESS_KEY": "own", "R2_SECRET_KEY": "own-secret"}
AWS = {"AWS_ACCESS_KEY_ID": "aws", "AWS_SECRET_ACCESS_KEY": "aws-secret", "AWS_SESSION_TOKEN": "token"}
R2_HOST = "https://a.r2.cloudflarestorage.com"


@pytest.mark.parametrize(
    ("url", "environ", "key", "token"),
    [
        (f"r2://bucket?endpoint={R2_HOST}", R2 | AWS, "own", ""),
        (f"s3://bucket?endpoint={R2_HOST}", R2 | AWS, "own", ""),
        (f"s3://bucket?endpoint={R2_HOST}", AWS, "aws", "token"),
        ("s3://bucket", AWS, "aws", "token"),
        ("s3://bucket?endpoint=https://s3.us-west-004.backblazeb2.com", {"B2_KEY_ID": "b2", "B2_APPLICATION_KEY": "s"} | AWS, "b2", ""),
        ("wasabi://bucket", {"WASABI_ACCESS_KEY_ID": "w", "WASABI_SECRET_ACCESS_KEY": "s"}, "w", ""),
    ],
)
def test_whose_credentials_go_with_a_place(url: str, environ: dict[str, str], key: str, token: str) -> None:
    access = Access(environ)
    found = account(parse(url, access), access)
    assert found is not None
    assert (found.key, found.token.reveal()) == (key, token)
    assert "secret" not in repr(found).replace("secret=Secret(hidden)", "")


@pytest.mark.parametrize(
    ("url", "environ", "named"),
    [
        (f"r2://bucket?endpoint={R2_HOST}", AWS, "R2_ACCESS_KEY and R2_SECRET_KEY"),
        (f"r2://bucket?endpoint={R2_HOST}", {"R2_ACCESS_KEY": "x"}, "R2_SECRET_KEY"),
        ("wasabi://bucket", {}, "WASABI_ACCESS_KEY and WASABI_SECRET_KEY"),
        ("s3://bucket?endpoint=https://s3.us-west-004.backblazeb2.com", {"B2_APPLICATION_KEY": "x"}, "B2_KEY_ID"),
        ("s3://bucket", {"AWS_ACCESS_KEY_ID": "x"}, "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_credentials_that_are_missing_are_named(url: str, environ: dict[str, str], named: str) -> None:
    access = Access(environ)
    with pytest.raises(UsageError, match=named):
        account(parse(url, access), access)


def test_amazon_may_find_credentials_by_itself() -> None:
    assert account(parse("s3://bucket", Access()), Access()) is None
