"""A store that can do the least that torpor asks of one: it only looks before it writes, and grants names one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torpor.jobs import Grant, Request
from torpor.storage.base import Capabilities, Exists, Info
from torpor.storage.grants import below_packs
from torpor.storage.wrapper import Wrapper

if TYPE_CHECKING:
    from torpor.storage.base import Data


class BareStore(Wrapper):
    """Around a stepped store: another actor may come in between the look and the write."""

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities._replace(conditional_put=False, prefix_grants=False)

    def put(self, name: str, data: Data, *, if_absent: bool = False) -> Info:
        if if_absent and self.inner.head(name) is not None:
            raise Exists(f"{self.url} already has {name}.")
        return self.inner.put(name, data)

    def grant_put(self, prefix: str, expires: float, names: Sequence[str] = ()) -> Grant:
        below = [below_packs(name) for name in names]
        return Grant(put={name: Request("PUT", f"{self.url}/packs/{name}") for name in below}, expires=expires)
