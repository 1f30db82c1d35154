"""A walk is the same with and without the compiled kernels, in the order that the format asks for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torpor.jobs import Scope
from torpor.native import kernels
from torpor.testing import nasty
from torpor.workspace.walk import RUN_MAX, Found, walk


def seen(root: Path, **scope: object) -> tuple[list[Found], list[tuple[bytes, str, str]]]:
    problems: list[tuple[bytes, str, str]] = []
    found = [
        entry._replace(fd=0, plain=False)
        for entry in walk(Scope(roots=[os.fsencode(root)], **scope), lambda *told: problems.append(told))  # type: ignore[arg-type]
    ]
    return found, problems


def both(root: Path, patch: pytest.MonkeyPatch, **scope: object) -> list[Found]:
    """The walk's entries, which must be the same without the kernels."""
    assert kernels.library() is not None
    compiled = seen(root, **scope)
    with patch.context() as without:
        without.setattr(kernels, "library", lambda: None)
        assert seen(root, **scope) == compiled
    keys = [entry.key for entry in compiled[0]]
    assert keys == sorted(keys)
    return compiled[0]


def test_everything_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nasty.make(tmp_path / "root")
    found = both(tmp_path / "root", monkeypatch, default_excludes=False)
    real = {os.fsencode(path) for path in (tmp_path / "root").rglob("*")}
    sockets = {path for path in real if not (os.path.islink(path) or os.path.isfile(path) or os.path.isdir(path))}
    assert {entry.path for entry in found[1:]} == real - sockets


@pytest.mark.parametrize("count", [0, 1, RUN_MAX - 1, RUN_MAX, RUN_MAX + 1, 2047, 2048, 2049, 5000])
def test_directories_of_any_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    (tmp_path / "folder" / "below").mkdir(parents=True)
    for number in range(count):
        (tmp_path / "folder" / f"{number * 7919 % 10_007}").touch()
    found = both(tmp_path, monkeypatch)
    assert len(found) == count + 3
    assert len({entry.path for entry in found}) == count + 3


def test_long_names_do_not_fit_a_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(400):
        (tmp_path / f"{number:0250d}").touch()
    assert len(both(tmp_path, monkeypatch)) == 401


def test_names_that_sort_by_bytes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (b"a!", b"a\x01", b"a\xff", b"a/b", b"\xff", b"d", b"f", b"A", b"a.b/c"):
        path = os.fsencode(tmp_path) + b"/folder/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not os.path.isdir(path):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    both(tmp_path, monkeypatch)


def test_attributes_of_directories_are_seen(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "marked").mkdir()
    os.setxattr(tmp_path / "marked", "user.colour", b"blue")
    found = {entry.name: entry.plain for entry in walk(Scope(roots=[os.fsencode(tmp_path)]), lambda *_: None)}
    assert found[b"plain"]
    assert not found[b"marked"]


def test_what_can_not_be_entered_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to("folder")
    found = both(tmp_path, monkeypatch)
    assert [entry.name for entry in found] == [b"", b"a", b"folder", b"link"]
    assert seen(tmp_path)[1] == [(os.fsencode(tmp_path / "fifo"), "special", "p")]
