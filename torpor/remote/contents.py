"""What is in a bundle: the part of torpor that a host runs, and the packages it needs, as installed here or as wheels.

Where the host is what this computer is, the files of the packages installed here are taken, and no network is needed. Everything else is
fetched by pip, as wheels, never newer than what is installed here.
"""

from __future__ import annotations

import hashlib
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, TypeVar

from torpor.remote import closure, wheels
from torpor.remote.platforms import Platform, here, least_glibc, runs

T = TypeVar("T")
_UNUSED = ("*.pyi", "*/__pycache__/*", "tests/*", "*/tests/*", "*.dist-info/*", "*-*.data/*", "*.pth")


class Part(NamedTuple):
    """A package by the name of its distribution. `keep`: what is needed of it; `before`: the first Python that does without it."""

    name: str
    keep: tuple[str, ...] = ("*",)
    before: tuple[int, int] = (99, 0)


# Of torpor's dependencies what a host's jobs import (tests hold it against `closure.others`), and what these need in turn.
PARTS = (
    Part("backports.zstd", ("backports/*",), (3, 14)),
    Part("blake3"),
    Part("cffi", ("_cffi_backend*",)),  # cryptography's library asks for this one file of it
    Part("cryptography"),
    Part("lz4", ("lz4/*.py", "lz4/_version*", "lz4/block/*")),
    Part("msgspec"),
    Part("pathspec"),
    Part("typing-extensions", before=(3, 11)),
)
INSTEAD = Part("numpy")  # of the compiled kernels, where they do not run

Contents = dict[str, bytes]  # path below the bundle → bytes


def contents(where: Platform, cache: Path) -> Contents:
    """Every file of the bundle for a host. Raises `MissingDependency`, `HostFailed` where packages must be fetched and can't be."""
    found = own(where)
    parts = [part for part in PARTS if where.python < part.before]
    if not any(name.endswith(".so") for name in found):
        parts.append(INSTEAD)
    taken = installed(where, parts)
    if taken is None:
        files = wheels.fetch([wheels.requirement(part.name) for part in parts], where, cache)
        taken = {}
        for part in parts:
            for wheel in files:
                if wheels.project(wheel.name) == wheels.normal(part.name):
                    taken.update(kept(unzipped(wheel), part.keep))
    found.update(taken)
    return found


def stamp(where: Platform) -> str:
    """Changes with whatever `contents` is made from, and takes milliseconds: 32 hex digits."""
    told = [repr(where), sys.version]
    for file in sorted(closure.ROOT.rglob("*")):
        if "__pycache__" not in file.parts and file.is_file():
            seen = file.stat()
            told.append(f"{file} {seen.st_size} {seen.st_mtime_ns}")
    for name in (part.name for part in (*PARTS, INSTEAD)):
        with suppress(metadata.PackageNotFoundError):
            told.append(f"{name} {metadata.version(name)}")
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:32]


def own(where: Platform) -> Contents:
    """Torpor's files, and what starts them."""
    above = closure.ROOT.parent
    found = {str(file.relative_to(above)): file.read_bytes() for file in (*closure.modules().values(), *closure.data())}
    found = {name: data for name, data in found.items() if not name.endswith(".so") or runs(data, where)}
    found["__main__.py"] = closure.modules()["torpor.remote.entry"].read_bytes()
    return found


def installed(where: Platform, parts: Iterable[Part]) -> Contents | None:
    """The packages from here; None if one of them would not run there."""
    mine = here()
    if mine is None or (mine.python, mine.architecture) != (where.python, where.architecture):
        return None
    found: Contents = {}
    for part in parts:
        try:
            package = metadata.distribution(part.name)
        except metadata.PackageNotFoundError:
            return None
        tags = re.findall(r"^Tag: (\S+)$", package.read_text("WHEEL") or "", re.MULTILINE)
        least = least_glibc(tags, where.architecture)
        if least is None or least > where.glibc or not package.files:
            return None
        files = ((str(file), Path(str(package.locate_file(file)))) for file in package.files if ".." not in file.parts)
        taken = dict(kept(((name, path) for name, path in files), part.keep))
        try:
            found.update((name, path.read_bytes()) for name, path in taken.items())
        except FileNotFoundError:  # somebody deleted a part of it
            return None
    return found


def unzipped(wheel: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not name.endswith("/") and not name.startswith("/") and ".." not in name.split("/"):
                yield re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", name), archive.read(name)


def kept(files: Iterable[tuple[str, T]], keep: tuple[str, ...] = ("*",)) -> Iterator[tuple[str, T]]:
    """Of a package's files by name, what a host loads."""
    for name, what in files:
        if any(fnmatch(name, pattern) for pattern in keep) and not any(fnmatch(name, pattern) for pattern in _UNUSED):
            yield name, what
