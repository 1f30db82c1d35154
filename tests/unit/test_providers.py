from __future__ import annotations

import pytest

from torpor import settings
from torpor.errors import UsageError
from torpor.providers import PROVIDERS, storage_url
from torpor.storage.table import ROWS

R2 = {"R2_ENDPOINT": "https://a.r2.cloudflarestorage.com", "R2_BUCKET": "box", "R2_ACCESS_KEY": "k", "R2_SECRET_KEY": "hunter2"}


@pytest.mark.parametrize(
    ("provider", "environ", "url"),
    [
        ("b2", {"B2_BUCKET": "box", "B2_KEY_ID": "k", "B2_APPLICATION_KEY": "s"}, "b2://box"),
        ("gcs", {"GCS_BUCKET": "box/a/b/"}, "gs://box/a/b"),
        ("local", {}, ""),
        ("r2", R2, "r2://box"),
        ("s3", {"S3_BUCKET": "box", "AWS_BUCKET": "other"}, "s3://box"),
        ("s3", {"AWS_BUCKET": "box"}, "s3://box"),
        ("wasabi", {"WASABI_BUCKET": "box", "WASABI_ACCESS_KEY_ID": "k", "WASABI_SECRET_KEY": "s"}, "wasabi://box"),
    ],
)
def test_a_provider_and_its_variables_make_a_url(provider: str, environ: dict[str, str], url: str) -> None:
    assert storage_url(provider, environ) == url


def test_every_provider_has_a_store() -> None:
    assert {row.scheme for row in PROVIDERS.values()} <= set(ROWS)


@pytest.mark.parametrize("name", R2)
def test_a_variable_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=f"needs {name}, which is not set") as caught:
        storage_url("r2", {**R2, name: ""})
    assert "hunter2" not in str(caught.value)


def test_all_that_are_missing_are_named() -> None:
    with pytest.raises(UsageError, match="needs B2_BUCKET and B2_KEY_ID and B2_APPLICATION_KEY, which are not set"):
        storage_url("b2", {})


@pytest.mark.parametrize("bucket", ["https://box", "box?x=hunter2", "key:hunter2@box", "a//b", "../a", " "])
def test_what_is_no_bucket_is_refused(bucket: str) -> None:
    with pytest.raises(UsageError, match="AWS_BUCKET") as caught:
        storage_url("s3", {"AWS_BUCKET": bucket})
    assert "hunter2" not in str(caught.value)


def test_an_unknown_provider_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match="b2, gcs, local, r2, s3, wasabi"):
        storage_url("ftp", {})


def test_settings_take_a_url_first() -> None:
    environ = {"HOME": "/home-of-nobody", "STORAGE_PROVIDER": "r2", **R2}
    assert settings.load(environ).storage == "r2://box"
    assert settings.load({**environ, "TORPOR_STORAGE": "file:///x"}).storage == "file:///x"
    assert settings.load(environ, "file:///y").storage == "file:///y"
    assert settings.load({**environ, "STORAGE_PROVIDER": "local"}).storage == "file:///home-of-nobody/.torpor/storage"
    assert settings.load(environ).access.get("R2_SECRET_KEY") == "hunter2"
    assert "hunter2" not in repr(settings.load(environ))
