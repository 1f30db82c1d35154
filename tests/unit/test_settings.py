"""What the environment says of places: blanks around it don't count, a secret is not repeated, and no store ends with its process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torpor.errors import UsageError
from torpor.providers import shown
from torpor.settings import load

SECRET = "SECRETQQ"


@pytest.mark.parametrize("url", ["memory:", "memory://", "MEMORY:", " memory: "])
@pytest.mark.parametrize("name", ["TORPOR_STORAGE", "TORPOR_COPIES", "--storage"])
def test_a_store_that_ends_with_its_process_is_refused(url: str, name: str) -> None:
    with pytest.raises(UsageError, match="ends with the process"):
        load({}, url) if name == "--storage" else load({name: url})


def test_blanks_around_a_place_do_not_count() -> None:
    env = {
        "TORPOR_STORAGE": " s3://box/prefix\n", "TORPOR_COPIES": " file:///a , s3://b ", "TORPOR_HOME": " ~/x ", "TORPOR_CACHE": " ~/cache",
    }  # fmt: skip
    found = load(env)
    assert (found.storage, found.copies) == ("s3://box/prefix", ("file:///a", "s3://b"))
    assert (found.home, found.cache) == (Path.home() / "x", os.path.expanduser("~/cache"))
    assert load(env, "\tfile:///y ").storage == "file:///y"


@pytest.mark.parametrize("name", ["TORPOR_STORAGE", "TORPOR_HOME", "TORPOR_CACHE"])
def test_a_blank_place_is_no_default(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is blank"):
        load({"HOME": "/home-of-nobody", name: " "})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"s3://KEY:{SECRET}@box/p", "s3://…@box/p"),
        (f"s3://KEY:a/{SECRET}@box", "s3://…@box"),
        (f"s3://KEY:{SECRET}", "s3://…"),
        (f"s3:KEY:{SECRET}@box", "s3:…@box"),
        (f"s3://box?secret={SECRET}&region=eu", "s3://box?secret=…&region=eu"),
        (f"s3://box?{SECRET}", "s3://box?…"),
        (f"s3://box?endpoint=https://k:{SECRET}@host:9", "s3://box?endpoint=…@host:9"),
        (f"b2://box#{SECRET}", "b2://box#…"),
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url: str, said: str) -> None:
    assert shown(url) == said
    for env, storage in (({"TORPOR_STORAGE": url}, None), ({"TORPOR_COPIES": f"/a,{url}"}, None), ({}, url)):
        with pytest.raises(UsageError, match="may be a secret") as caught:
            load(env, storage)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://box/p?endpoint=http://[::1]:9000&region=eu-1&conditional=yes&provider=r2&digest=none&style=path", "b2://box?realm=https://x",
        "file:///a%40b:c", "/a@b:c?d#e", "./s3:/x", "s3://box", "gs://box/p?endpoint=https://h:1",
    ],
)  # fmt: skip
def test_a_url_without_one_stays_as_it_is(url: str) -> None:
    assert shown(url) == url
    assert load({"TORPOR_STORAGE": url}).storage == url
