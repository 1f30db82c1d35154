"""The two JSON sections of an index: meta and problems."""

from __future__ import annotations

import msgspec

from torpor.errors import Malformed


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
    """A file that could not be saved as it is. `kind`: unreadable, vanished, torn, special."""

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
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"The index's description of its roots does not parse: {error}.") from None
    if meta.snapshot != snapshot:
        raise Malformed(f"The index is of snapshot {meta.snapshot}, not {snapshot}: it was swapped.")
    if not meta.roots or len({root.name for root in meta.roots}) != len(meta.roots):
        raise Malformed("The index names no roots, or one of them twice.")
    return meta


def decode_problems(data: bytes) -> list[Problem]:
    try:
        return _problems.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"The index's list of problems does not parse: {error}.") from None


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
