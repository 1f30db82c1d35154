"""The two JSON sections of an index: meta and problems."""

from __future__ import annotations

import msgspec

from torpor.errors import Malformed
from torpor.format.untrusted import BROKEN

ROOT_KINDS = ("directory", "file")
PROBLEM_KINDS = ("unreadable", "vanished", "torn", "special", "mount")


class Root(msgspec.Struct, frozen=True):
    """One tree of a snapshot. `path` is where it lay on its host, in bytes; `name` what its root entry is called."""

    name: bytes
    path: bytes
    kind: str = "directory"


class Meta(msgspec.Struct, frozen=True):
    snapshot: str
    roots: list[Root]
    users: dict[str, str] = {}
    groups: dict[str, str] = {}
    excludes: list[str] = []


class Problem(msgspec.Struct, frozen=True):
    """A file that could not be saved as it is. `kind`: one of `PROBLEM_KINDS`."""

    path: bytes
    kind: str
    detail: str = ""


_meta = msgspec.json.Decoder(Meta)
_problems = msgspec.json.Decoder(list[Problem])


def encode(what: Meta | list[Problem]) -> bytes:
    return msgspec.json.encode(what)


def decode_meta(data: bytes, snapshot: str) -> Meta:
    try:
        meta = _meta.decode(data)
    except BROKEN as error:
        raise Malformed(f"The index's description of its roots does not parse: {error}.") from None
    if meta.snapshot != snapshot:
        raise Malformed(f"The index is of snapshot {meta.snapshot}, not {snapshot}: it was swapped.")
    if not meta.roots or len({root.name for root in meta.roots}) != len(meta.roots):
        raise Malformed("The index names no roots, or one of them twice.")
    if not all(root.kind in ROOT_KINDS and _is_clean(root.path) for root in meta.roots):
        raise Malformed("The index names a root that is neither folder nor file, or whose path leads elsewhere.")
    return meta


def _is_clean(path: bytes) -> bool:
    """Whether a root's path is absolute and takes no detours: a restore of several roots puts each below its target by this path."""
    parts = path.lstrip(b"/").split(b"/")
    return path.startswith(b"/") and b"\0" not in path and (parts == [b""] or not any(part in (b"", b".", b"..") for part in parts))


def decode_problems(data: bytes) -> list[Problem]:
    try:
        problems = _problems.decode(data)
    except BROKEN as error:
        raise Malformed(f"The index's list of problems does not parse: {error}.") from None
    if any(problem.kind not in PROBLEM_KINDS for problem in problems):
        raise Malformed("The index's list of problems holds one of no known kind.")
    return problems


def root_names(paths: list[bytes]) -> list[bytes]:
    """A name for each root: the last component of its path, made unique by -2, -3, …"""
    out: list[bytes] = []
    for path in paths:
        name = path.rstrip(b"/").rsplit(b"/", 1)[-1] or b"root"
        unique, n = name, 2
        while unique in out:
            unique = name + b"-%d" % n
            n += 1
        out.append(unique)
    return out
