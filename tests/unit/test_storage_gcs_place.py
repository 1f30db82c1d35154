from __future__ import annotations

import pytest

from torpor.errors import UsageError
from torpor.storage.gcs_place import Place, parse


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("gs://bucket", Place("gs://bucket", "bucket", "", "https://storage.googleapis.com")),
        ("gs://bucket/", Place("gs://bucket", "bucket", "", "https://storage.googleapis.com")),
        ("gs://my.bucket_1/a/b-c/", Place("gs://my.bucket_1/a/b-c", "my.bucket_1", "a/b-c/", "https://storage.googleapis.com")),
        (
            "gs://bucket/a?endpoint=https://x.example/",
            Place("gs://bucket/a?endpoint=https://x.example", "bucket", "a/", "https://x.example"),
        ),
        ("gs://bucket?endpoint=http://127.0.0.1:1", Place("gs://bucket?endpoint=http://127.0.0.1:1", "bucket", "", "http://127.0.0.1:1")),
        ("gs://bucket?endpoint=http://[::1]:1", Place("gs://bucket?endpoint=http://[::1]:1", "bucket", "", "http://[::1]:1")),
    ],
)
def test_urls(url: str, place: Place) -> None:
    assert parse(url) == place
    assert parse(place.url) == place


@pytest.mark.parametrize(
    "url",
    [
        "gs:", "gs://", "gs:///a", "gs://UPPER", "gs://a", "gs://key:hunter2@bucket", "gs://bucket:80", "gs://bucket/a//b", "gs://bucket/../b",
        "gs://bucket/.hidden", "gs://bucket/a b", "gs://bucket/é", "gs://bucket#hunter2", "gs://bucket?token=hunter2",
        "gs://bucket?endpoint=", "gs://bucket?endpoint=https://user:hunter2@host", "gs://bucket?endpoint=https://host/path",
        "gs://bucket?endpoint=http://storage.example", "gs://bucket?endpoint=ftp://host",
        "gs://bucket?endpoint=http://[::::1]:9", "gs://[::::1]", "gs://bucket?endpoint=https://h:99999",
        "gs://bucket/" + "x" * 900,
    ],
)  # fmt: skip
def test_what_is_no_place_is_refused_with_a_remedy_and_without_its_text(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(url)
    assert caught.value.remedy
    assert "hunter2" not in str(caught.value)
