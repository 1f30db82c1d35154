"""Grants as data: how a store writes one, and how a host finds what it may do. Nothing here reads or writes an object."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from torpor.errors import UsageError
from torpor.storage.base import PACKS, NotGranted, check_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torpor.jobs import Grant

Verb = Literal["put", "get"]

# In a template's headers: the beginning that names must have. It is read here and never sent.
PREFIX_HEADER = "torpor-prefix"


class Call(NamedTuple):
    """One granted request, filled in. `name` is below `packs/`; `expires` is the grant's. URL and headers can be secret.

    `look`: of a put, how to read what already has its name, if that is granted too. `again`: an earlier call of this put may have
    taken effect. `patience`: seconds for which it is tried again; 0: as long as the transport's options say.
    """

    name: str
    method: str
    url: str
    headers: dict[str, str]
    expires: float
    digest: str = ""
    look: Call | None = None
    again: bool = False
    patience: float = 0.0

    def __repr__(self) -> str:
        return f"Call({self.method} {self.name})"


def below_packs(name: str) -> str:
    """The name below `packs/` of an object named in full; `UsageError` for any other object, since no host is granted those."""
    check_name(name)
    if not name.startswith(PACKS):
        raise UsageError(f"{name} does not lie under {PACKS}, and nothing else is ever granted to a host.")
    return name[len(PACKS) :]


def snapshot_prefix(prefix: str) -> str:
    """`<snapshot>/` of `packs/<snapshot>/`; `UsageError` for any other prefix, since no host may write there."""
    below = below_packs(prefix[:-1]) + "/"
    if not prefix.endswith("/") or below.count("/") != 1:
        raise UsageError(f"{prefix!a} is not one folder below {PACKS}, such as {PACKS}<snapshot>/.")
    return below


def put_by_prefix(base: str, prefix: str, expires: float) -> Grant:
    """A grant to write under `prefix` of a store whose objects have the URLs `<base>/<name>`."""
    from torpor.jobs import Grant, Request

    below = snapshot_prefix(prefix)
    base = base.rstrip("/")
    return Grant(put_template=Request("PUT", f"{base}/{PACKS}{{name}}", {PREFIX_HEADER: below}), expires=expires)


def get_by_name(base: str, names: Iterable[str], expires: float) -> Grant:
    """A grant to read just these objects of such a store."""
    from torpor.jobs import Grant, Request

    base = base.rstrip("/")
    return Grant(get={below_packs(name): Request("GET", f"{base}/{name}") for name in names}, expires=expires)


def join(*grants: Grant) -> Grant:
    """One grant that allows what each of these does, until the first of them ends."""
    from torpor.jobs import Grant

    put = [grant.put_template for grant in grants if grant.put_template]
    get = [grant.get_template for grant in grants if grant.get_template]
    if len(put) > 1 or len(get) > 1:
        raise UsageError("Two grants with templates of one kind cannot be joined.")
    return Grant(
        put={name: request for grant in grants for name, request in grant.put.items()},
        get={name: request for grant in grants for name, request in grant.get.items()},
        put_template=put[0] if put else None,
        get_template=get[0] if get else None,
        expires=min((grant.expires for grant in grants if grant.expires), default=0.0),
    )


_HERE = ("file:", "memory:")


def is_remote(grant: Grant) -> bool:
    """Whether its requests go over a network."""
    templates = [one for one in (grant.put_template, grant.get_template) if one]
    return any(not request.url.startswith(_HERE) for request in (*templates, *grant.put.values(), *grant.get.values()))


class Held:
    """The grants that a job holds at one time. Several come together while it runs; of those that cover a name, the newest counts.

    Times are seconds since 1970 by the host's clock. Not for several threads at once.
    """

    def __init__(self, grant: Grant, now: float) -> None:
        self._grants = [(grant, _due(grant, now))]

    def add(self, grant: Grant, now: float) -> None:
        self._grants = [(grant, _due(grant, now)), *(held for held in self._grants if not _is_over(held[0], now))]

    def find(self, verb: Verb, name: str) -> Call:
        """As `find` below, in all of them."""
        check_name(name)
        for grant, _ in self._grants:
            if _covers(grant, verb, name):
                return find(grant, verb, name)
        return find(self._grants[0][0], verb, name)

    def lasts(self, verb: Verb, name: str, now: float) -> bool:
        """Whether a grant covers `name` and most of its life is still to come."""
        return any(_covers(grant, verb, name) and now < due for grant, due in self._grants)

    def is_valid(self, verb: Verb, name: str, now: float) -> bool:
        """Whether a grant covers `name` and has not run out."""
        return any(_covers(grant, verb, name) and not _is_over(grant, now) for grant, _ in self._grants)


def _due(grant: Grant, now: float) -> float:
    """When to ask for a fresh one: after three quarters of its life."""
    return now + 0.75 * (grant.expires - now) if grant.expires else math.inf


def _is_over(grant: Grant, now: float) -> bool:
    return 0 < grant.expires <= now


def _covers(grant: Grant, verb: Verb, name: str) -> bool:
    if name in (grant.put if verb == "put" else grant.get):
        return True
    template = grant.put_template if verb == "put" else grant.get_template
    return template is not None and name.startswith(template.headers.get(PREFIX_HEADER, ""))


def find(grant: Grant, verb: Verb, name: str) -> Call:
    """What the grant allows for `name` (below `packs/`); `NotGranted` if nothing, `BadName` if it is no name."""
    check_name(name)
    request = (grant.put if verb == "put" else grant.get).get(name)
    if request is not None:
        return Call(name, request.method, request.url, request.headers, grant.expires, request.digest)
    template = grant.put_template if verb == "put" else grant.get_template
    if template is None or not _covers(grant, verb, name):
        raise NotGranted(
            f"This job may not {'write' if verb == 'put' else 'read'} {name}.",
            remedy="Start the job again from the control side, which grants what a job needs.",
        )
    headers = {key: value.replace("{name}", name) for key, value in template.headers.items() if key != PREFIX_HEADER}
    return Call(name, template.method, template.url.replace("{name}", name), headers, grant.expires, template.digest)
