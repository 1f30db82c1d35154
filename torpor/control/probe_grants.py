"""Does a store let a host do what its grant says, and nothing more? Asked the way a host asks: through `Transfer`, without credentials.

A store whose grants work on this computer alone (`presign` is not among its capabilities) has no server that could refuse; there,
what is checked is what this computer's own side of it does.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from torpor.control.finding import Check, one_by_one
from torpor.errors import StorageUnavailable
from torpor.jobs import Grant
from torpor.storage.base import PACKS, Exists, GrantExpired, Missing, Refused
from torpor.storage.grants import PREFIX_HEADER
from torpor.storage.options import Options
from torpor.storage.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torpor.control.trail import Trail

_DATA, _OTHER = b"torpor doctor\n" * 20_000, b"another object\n"
_PATIENT = Options(deadline=20.0)
_HOUR = 3600.0

REPLACES = "If the storage URL has ?conditional=yes, write ?conditional=no; else do not use this store."


def check(trail: Trail, known: str) -> Iterator[Check]:
    """`known`: the full name of an object outside of `packs/` that is there."""
    yield from one_by_one({
        "grant": lambda: _use(trail),
        "checksum": lambda: _checksum(trail),
        "grant: names": lambda: _names(trail, known),
        "grant: end": lambda: _end(trail),
    })  # fmt: skip


def would_decide(trail: Trail) -> bool:
    """Whether a service that is not asked to decide `If-None-Match: *` would."""
    name = trail.pack()
    request = trail.to_put([name]).put.get(name)
    if request is None or request.method != "PUT" or not request.url.startswith("http"):
        return False
    asked = msgspec.structs.replace(request, headers={**request.headers, "If-None-Match": "*"})
    _put(Grant(put={name: request}), name, _DATA)
    try:
        _put(Grant(put={name: asked}), name, _OTHER)
    except Exists:
        return True
    except StorageUnavailable:
        pass  # it does not know the condition
    return False


def _put(grant: Grant, name: str, data: bytes, options: Options = _PATIENT) -> tuple[str, bytes]:
    """What the store says of it: kind and digest."""
    from blake3 import blake3

    with Transfer(grant, options=options) as transfer:
        info = transfer.put(name, [data], blake3(data).digest())
        return info.digest_kind, info.digest


def _get(grant: Grant, name: str, options: Options = _PATIENT) -> bytes:
    with Transfer(grant, options=options) as transfer:
        return transfer.get(name)


def _use(trail: Trail) -> Iterator[Check]:
    name = trail.pack()
    to_put = trail.to_put([name])
    _put(to_put, name, _DATA)
    with Transfer(trail.to_get([name]), options=_PATIENT) as transfer:
        same = transfer.get(name) == _DATA and transfer.get(name, 1000, 5000) == _DATA[1000:6000]
    if not same:
        yield Check("grant", "fail", "a host reads other bytes than it wrote", "Do not use this store.")
        return
    if trail.store.capabilities.conditional_put:
        try:
            _put(to_put, name, _OTHER)
        except Exists:
            pass
        else:
            yield Check("grant", "fail", "a host can replace what it wrote, though the store is said to refuse that", REPLACES)
            return
    where = "from anywhere, without this account's credentials" if trail.store.capabilities.presign else "on this computer alone"
    yield Check("grant", "ok", f"a job can write and read packs, {where}")


def _checksum(trail: Trail) -> Iterator[Check]:
    """What the store says that it took must be what was sent."""
    name = trail.pack()
    kind, digest = _put(trail.to_put([name]), name, _DATA)
    if kind == "none":
        yield Check("checksum", "ok", "the store tells none; those in the packs themselves are compared by whoever reads them")
    elif digest != hashlib.new(kind, _DATA, usedforsecurity=False).digest():
        yield Check("checksum", "fail", f"the store told another {kind.upper()} than that of what was sent", "Do not use this store.")
    else:
        yield Check("checksum", "ok", f"the store told the {kind.upper()} of what was sent")


def _names(trail: Trail, known: str) -> Iterator[Check]:
    """A request for one name, sent with another, must be refused."""
    inside, outside = trail.pack(), trail.stranger()
    grant = trail.to_put([inside])
    _put(grant, inside, _DATA)
    to_get = trail.to_get([inside])
    if not trail.store.capabilities.presign:
        ways = [_refused_put(grant, outside), _refused_get(to_get, outside)]
        text = "a job is refused what it was not granted, by this computer: who can reach the folder can do more"
    else:
        (read,) = to_get.get.values()
        other = msgspec.structs.replace(read, url=read.url.replace(PACKS + inside, known))
        ways = [_refused_put(_turned(grant, inside, outside), outside), _refused_get(Grant(get={outside: other}), outside)]
        text = "a request for one name is refused for any other"
    if all(ways):
        yield Check("grant: names", "ok", text)
        return
    what = " and ".join(verb for verb, refused in zip(("writes", "reads"), ways, strict=True) if not refused)
    yield Check(
        "grant: names", "fail", f"a request for one name {what} another one's object too",
        "The store does not check what is signed: a host that should not be trusted can reach all of the bucket. Use another store.",
    )  # fmt: skip


def _turned(grant: Grant, inside: str, outside: str) -> Grant:
    """The same requests, sent for another name."""
    template = grant.put_template
    if template is not None:
        return Grant(put_template=msgspec.structs.replace(template, headers={**template.headers, PREFIX_HEADER: ""}))
    request = grant.put[inside]
    return Grant(put={outside: msgspec.structs.replace(request, url=request.url.replace(inside, outside))})


def _end(trail: Trail) -> Iterator[Check]:
    """A grant that was over before it was made must be refused, and one that was taken back."""
    name, there = trail.pack(), trail.pack()
    remote = trail.store.capabilities.presign
    over = trail.clock.now() - _HOUR
    whole = trail.to_put([there])
    _put(whole, there, _DATA)
    to_put, to_get = trail.to_put([name], over), trail.to_get([there], over)
    if remote:  # not told when it ends, this computer leaves it to the store
        to_put, to_get = (msgspec.structs.replace(grant, expires=0.0) for grant in (to_put, to_get))
    ways = {"still writes": _refused_put(to_put, name), "still reads": _refused_get(to_get, there)}
    if remote and whole.put_template is not None:
        trail.store.end_grant(whole)
        ways["still writes after it was taken back"] = _refused_put(msgspec.structs.replace(whole, expires=0.0), trail.pack())
    bad = [what for what, refused in ways.items() if not refused]
    if not bad:
        by = "the store" if remote else "this computer"
        yield Check("grant: end", "ok", f"a grant that has ended is refused by {by}")
        return
    yield Check(
        "grant: end", "fail", f"a grant that has ended {', and '.join(bad)}",
        "What a rented host was given works for ever: the store does not look at the time. Use another store.",
    )  # fmt: skip


def _refused_put(grant: Grant, name: str) -> bool:
    try:
        _put(grant, name, _OTHER)
    except (Refused, GrantExpired):
        return True
    return False


def _refused_get(grant: Grant, name: str) -> bool:
    try:
        _get(grant, name)
    except (Refused, GrantExpired):
        return True
    except Missing:
        return False  # it was looked for
    return False
