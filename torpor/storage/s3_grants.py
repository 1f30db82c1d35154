"""Grants of the S3 family: one signed request a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torpor.jobs import Grant, Request
from torpor.storage.grants import below_packs
from torpor.storage.s3_errors import asking
from torpor.storage.sigv4 import LONGEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.storage.s3_client import Client
    from torpor.storage.s3_place import Place


def signed(
    place: Place, client: Client, now: float, method: Literal["GET", "PUT"], names: Sequence[str], expires: float, headers: dict[str, str]
) -> Grant:
    """Requests for these objects of `packs/`, which end with the grant. `headers` are signed with them.

    A grant that would last longer than a signature can ends with that, and says so in `expires`. One that is over when it is made is
    signed all the same, and refused by the service.
    """
    below = [below_packs(name) for name in names]
    end = min(expires or now + LONGEST, now + LONGEST)
    start = min(now, end - 1)
    with asking(place, "sign requests to"):
        signer, base = client.signer()
    kind: Literal["", "md5"] = "md5" if method == "PUT" and place.digest == "md5" else ""
    requests = {
        short: Request(method, signer.sign(method, base + name, start, max(1, int(end - start)), headers), headers, kind)
        for short, name in zip(below, names, strict=True)
    }
    return Grant(put=requests, expires=end) if method == "PUT" else Grant(get=requests, expires=end)
