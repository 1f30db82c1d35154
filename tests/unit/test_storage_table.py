from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.errors import MissingDependency, NotFound, UsageError
from torpor.storage import table
from torpor.storage.local import LocalStore
from torpor.storage.memory import MemoryStore
from torpor.storage.table import ROWS, Row, open_store
from torpor.storage.urls import file_path, file_url


def test_rows_are_sorted_and_can_be_imported() -> None:
    assert list(ROWS) == sorted(ROWS)
    for scheme, row in ROWS.items():
        assert scheme == scheme.lower()
        assert row.example
        assert row.module.startswith("torpor.storage.")


def test_paths_and_urls_open_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    bare = [str(tmp_path / "a b"), "a b", "./a b", "x/../a b/", "~/a b", f"/{tmp_path}/a b"]
    urls = [f"file://{tmp_path}/a%20b", f"FILE://localhost{tmp_path}/a b", f"file:{tmp_path}/a%20b"]
    for text in bare + urls:
        store = open_store(text)
        assert isinstance(store, LocalStore)
        assert store.url == f"file://{tmp_path}/a%20b", text
    assert open_store("/").url == "file:///"
    assert open_store("file:///").url == "file:///"


@given(st.binary(max_size=30).filter(lambda path: b"\0" not in path))
def test_every_path_survives_as_a_url(below: bytes) -> None:
    path = os.path.abspath(os.fsdecode(b"/x/" + below))
    url = file_url(path)
    assert url.isascii()
    assert not set(url) & set("{}?# %\\") - {"%"}
    assert file_path(url) == path


def test_memory_stores_are_found_while_they_live() -> None:
    store = open_store("memory:")
    assert isinstance(store, MemoryStore)
    assert open_store(store.url) is store
    assert open_store("memory:") is not store
    url = store.url
    del store
    with pytest.raises(NotFound):
        open_store(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://host/x",
        "s4:x",
        "file://elsewhere/x",
        "file:relative",
        "file:",
        "file:///a?b",
        "file:///a#b",
        "file:///a%00b",
        " s3://box",
        "b2://box?realm=http://[::::1]:9",
        "b2://[::::1]",
        '"s3://box"',
        "-s3:/box",
    ],
)
def test_what_cannot_be_opened_is_refused_with_a_remedy(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert str(caught.value)


def test_an_unknown_kind_lists_those_there_are_and_no_secret() -> None:
    with pytest.raises(UsageError) as caught:
        open_store("zz://key:hunter2@bucket")
    text = str(caught.value)
    assert "zz:" in text
    assert "hunter2" not in text
    assert all(row.example in text for scheme, row in ROWS.items() if scheme != "memory")
    assert "memory:" not in text


def test_a_missing_package_is_named_with_the_install_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_something.py").write_text("import a_package_that_is_not_there")
    (tmp_path / "needs_our_own.py").write_text("import torpor.not_there")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(table.ROWS, "zz", Row("needs_something", "Z", "zz:", extra="zzz"))
    with pytest.raises(MissingDependency, match=r'a_package_that_is_not_there.*pip install "torpor\[zzz\]"'):
        open_store("zz:x")
    monkeypatch.setitem(table.ROWS, "zz", Row("needs_our_own", "Z", "zz:", extra="zzz"))
    with pytest.raises(ModuleNotFoundError):  # a defect of ours is not the user's missing package
        open_store("zz:x")
