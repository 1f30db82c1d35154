"""The comparison that the other tests rely on finds what it says it does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.engine.alterations import Act, instead, link_to, poke
from torpor.testing import nasty
from torpor.testing.compare import compare_trees

PLANTS: dict[str, tuple[Act, str]] = {
    "a byte": (lambda p: poke(p / "large", 1_500_000, b"\xff"), "large: other bytes"),
    "one byte more": (lambda p: poke(p / "small", 14, b"x"), "small: size"),
    "permissions": (lambda p: (p / "small").chmod(0o600), "small: permissions"),
    "an mtime by a nanosecond": (lambda p: os.utime(p / "large", ns=(0, nasty.OLD + 1)), "large: mtime"),
    "a link's mtime": (lambda p: os.utime(p / "link", ns=(0, 5), follow_symlinks=False), "link: mtime"),
    "a folder's mtime": (lambda p: os.utime(p / "folder", ns=(0, 5)), "folder: mtime"),
    "a target": (instead("link", lambda p: p.symlink_to("small2")), "link: leads to"),
    "a link broken": (instead("twin", lambda p: shutil.copy2(p.parent / "small", p)), "twin: shares its inode"),
    "a link made": (instead("small2", link_to("small")), "small2: shares its inode"),
    "a hole filled": (lambda p: poke(p / "holes", 8192, bytes(4096)), "holes: data at"),
    "an attribute": (lambda p: os.setxattr(p / "small", "user.x", b"2"), "small: attribute user.x"),
    "a folder's attribute": (lambda p: os.setxattr(p / "folder", "user.y", b""), "folder: attribute user.y"),
    "an ACL": (lambda p: os.setxattr(p / "small", *nasty.acl(user=7)), "small: attribute system.posix_acl_access"),
    "a new file": (lambda p: (p / "folder" / "new").touch(), "folder/new: only in the second"),
    "a lost file": (lambda p: (p / "folder" / "inside").unlink(), "folder/inside: only in the first"),
    "another type": (instead("small", Path.mkdir), "small: -rw-r--r-- and drwxr-xr-x"),
}


def _make(path: Path) -> None:
    (path / "folder").mkdir(parents=True)
    for name in ("small", "small2", "folder/inside"):
        nasty.write(os.fsencode(path / name), b"the same bytes")
    nasty.write(os.fsencode(path / "large"), bytes(2 << 20))
    nasty.sparse(os.fsencode(path / "holes"), 1 << 20, (100_000, b"data"))
    os.link(path / "small", path / "twin")
    (path / "link").symlink_to("small")
    os.setxattr(path / "small", "user.x", b"1")
    nasty.age(os.fsencode(path))


@pytest.mark.parametrize("plant", PLANTS)
def test_a_difference_is_found(tmp_path: Path, plant: str) -> None:
    _make(tmp_path / "a")
    _make(tmp_path / "b")
    assert compare_trees(tmp_path / "a", tmp_path / "b") == []
    change, expected = PLANTS[plant]
    change(tmp_path / "b")
    found = compare_trees(tmp_path / "a", tmp_path / "b")
    assert any(line.startswith(expected) for line in found), found


def test_patterns_are_left_out(tmp_path: Path) -> None:
    _make(tmp_path / "a")
    _make(tmp_path / "b")
    (tmp_path / "b" / "small").chmod(0o600)
    (tmp_path / "b" / "folder" / "inside").chmod(0o600)
    (tmp_path / "b" / "twin").unlink()
    os.utime(tmp_path / "b", ns=(0, nasty.OLD))
    assert len(compare_trees(tmp_path / "a", tmp_path / "b")) == 3
    assert compare_trees(tmp_path / "a", tmp_path / "b", ignore=["small", "twin", "folder/*"]) == []


def test_single_files(tmp_path: Path) -> None:
    for name, data in {"a": b"one", "b": b"two"}.items():
        nasty.write(os.fsencode(tmp_path / name), data)
        os.utime(tmp_path / name, ns=(0, 0))
    assert compare_trees(tmp_path / "a", tmp_path / "a") == []
    assert compare_trees(tmp_path / "a", tmp_path / "b") == [".: other bytes within 4096 from 0"]
