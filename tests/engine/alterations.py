"""What may have become of a restored tree: each alteration makes something else of one that `make` made."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.engine.lab import write
from torpor.testing import nasty
from torpor.testing.samples import noise

MIB = 1 << 20
Act = Callable[[Path], object]


def make(root: Path) -> None:
    write(root / "file", "bytes of two names")
    os.link(root / "file", root / "twin")
    write(root / "same", "bytes of two names")
    os.setxattr(root / "file", "user.x", b"1")
    write(root / "large", noise(9 * MIB))
    write(root / "large2", noise(9 * MIB))
    write(root / "void", "")
    write(root / "void2", "")
    write(root / "folder/inside/deep", "a file within")
    nasty.sparse(os.fsencode(root / "holes"), 9 * MIB, (0, b"data"), (8 * MIB, b"more"))
    (root / "link").symlink_to("folder/inside")
    nasty.age(os.fsencode(root))


def poke(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def each(*steps: Act) -> Act:
    """One step after the other."""

    def act(path: Path) -> None:
        for step in steps:
            step(path)

    return act


def instead(name: str, become: Act) -> Act:
    """Something else in the place of what is there."""

    def act(path: Path) -> None:
        remove(path / name)
        become(path / name)

    return act


def full_folder(path: Path) -> None:
    path.mkdir()
    write(path / "x", "1")


def link_to(other: str) -> Act:
    return lambda path: os.link(path.parent / other, path)


def text(what: str) -> Act:
    return lambda path: write(path, what)


def _aside(path: Path) -> None:
    (path / "file").rename(path / "elsewhere")
    (path / "file").symlink_to("elsewhere")


def _modes(path: Path) -> None:
    for name, mode in {"file": 0o777, "large": 0, "folder": 0o777, "void": 0o4755}.items():
        (path / name).chmod(mode)


def _times(path: Path) -> None:
    for name in ("file", "large", "folder", "link", "void"):
        os.utime(path / name, ns=(0, 7), follow_symlinks=False)


def _attributes(path: Path) -> None:
    os.removexattr(path / "file", "user.x")
    for name in ("file", "large", "folder"):
        os.setxattr(path / name, "user.more", b"x")
    os.setxattr(path / "file", *nasty.acl(user=7))


def _default_acl(path: Path) -> None:
    """What is made in the target from now on is given an ACL."""
    os.setxattr(path, *nasty.acl(user=7, default=True))
    remove(path / "file")
    remove(path / "folder")


# Those that put a folder in the place of something else begin with its name.
ALTERATIONS: dict[str, Act] = {
    "file: a folder": instead("file", full_folder),
    "large: a folder": instead("large", Path.mkdir),
    "void: a folder": instead("void", Path.mkdir),
    "link: a folder": instead("link", full_folder),
    "twin: a folder": instead("twin", full_folder),
    "a folder became a file": instead("folder", text("file")),
    "a folder became a fifo": instead("folder", os.mkfifo),
    "a file became a fifo": instead("file", os.mkfifo),
    "a file became a link": _aside,
    "a large file became a link": instead("large", lambda path: path.symlink_to("file")),
    "a link became a file": instead("link", text("file")),
    "a link leads elsewhere": instead("link", lambda path: path.symlink_to("/elsewhere")),
    "a hard link was broken": instead("twin", text("bytes of two names")),
    "a hard link leads elsewhere": instead("twin", link_to("large")),
    "two files became one": instead("same", link_to("file")),
    "two large files became one": instead("large2", link_to("large")),
    "two empty files became one": instead("void2", link_to("void")),
    "all files became one": each(*(instead(name, link_to("file")) for name in ("large", "void", "same", "twin"))),
    "permissions": _modes,
    "times": _times,
    "attributes": _attributes,
    "a default ACL above": _default_acl,
    "holes were filled": lambda path: (path / "holes").write_bytes((path / "holes").read_bytes()),
    "holes were made": instead("large", lambda path: nasty.sparse(os.fsencode(path), 9 * MIB)),
    "holes were written to": lambda path: poke(path / "holes", 4 * MIB, b"where nothing was"),
    "temporary files were left": lambda path: write(path / "folder/.torpor-tmp-0123456789abcdef", "x"),
    "everything went": each(shutil.rmtree, Path.mkdir),
}
