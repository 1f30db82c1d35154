"""A store that a host can't reach, made one that it can: its grants lead through a tunnel to a gateway on this computer."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from torpor.clock import SYSTEM
from torpor.errors import UsageError
from torpor.remote.gateway import Gateway
from torpor.remote.gateway_sign import scope_of
from torpor.storage.base import check_name
from torpor.storage.grants import below_packs, snapshot_prefix
from torpor.storage.wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from torpor.clock import Clock
    from torpor.jobs import Grant
    from torpor.storage.base import Capabilities, Store

    # Opens a tunnel from a host's loopback to this port of ours; what it yields tells the port there.
    Tunnel = Callable[[int], AbstractContextManager[Callable[[], int]]]

_LOOPBACK = re.compile(r"https?://(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?(/|\Z)", re.IGNORECASE)


def reachable(store: Store) -> bool:
    """Whether a host elsewhere can reach the store by itself: not one in a folder or in memory, nor a service on our loopback."""
    _, _, query = store.url.partition("?")
    places = [option.partition("=")[2] for option in query.split("&")]
    return store.capabilities.presign and not any(map(_LOOPBACK.match, places))


class TunnelledStore(Wrapper):
    """`inner`, whose grants are requests to 127.0.0.1 at `port()`, where the host finds the tunnel to `gateway`."""

    def __init__(self, inner: Store, gateway: Gateway, port: Callable[[], int]) -> None:
        super().__init__(inner)
        self._gateway = gateway
        self._port = port

    @property
    def capabilities(self) -> Capabilities:
        """A put never replaces an object, so far as the inner store can tell; each is granted by its name."""
        return self.inner.capabilities._replace(presign=True, prefix_grants=False)

    def grant_put(self, prefix: str, expires: float, names: Sequence[str] = ()) -> Grant:
        snapshot_prefix(prefix)
        for name in names:
            check_name(name)
            if not name.startswith(prefix):
                raise UsageError(f"{name} does not lie under {prefix}.")
        return self._grant("PUT", names, expires)

    def grant_get(self, names: Iterable[str], expires: float) -> Grant:
        return self._grant("GET", [*names], expires)

    def end_grant(self, grant: Grant) -> None:
        requests = (*grant.put.values(), *grant.get.values())
        for scope in {scope_of(request.url) for request in requests}:
            self._gateway.end(scope)

    def revocation(self, grant: Grant) -> str:
        """Nothing outlives the gateway, so another process has nothing to take back."""
        return ""

    def revoke(self, revocation: str) -> None:
        return

    def _grant(self, method: str, names: Sequence[str], expires: float) -> Grant:
        from torpor.jobs import Grant, Request

        short = [below_packs(name) for name in names]
        base = f"http://127.0.0.1:{self._port()}"
        targets = self._gateway.allow(self.inner, method, names, expires)
        digest: Literal["", "md5"] = "md5" if method == "PUT" and self.inner.capabilities.digest == "md5" else ""
        requests = {name: Request(method, base + target, {}, digest) for name, target in zip(short, targets, strict=True)}
        return Grant(put=requests, expires=expires) if method == "PUT" else Grant(get=requests, expires=expires)


@contextmanager
def serving(tunnel: Tunnel, clock: Clock = SYSTEM) -> Iterator[Callable[[Store], Store]]:
    """What makes any store one that the host at the other end of `tunnel` can reach; those that it can are given back as they are.

    The gateway and the tunnel are opened with the first store that needs them, and end with the block, and all their grants too.
    """
    from contextlib import ExitStack

    with ExitStack() as stack:
        opened: list[tuple[Gateway, Callable[[], int]]] = []

        def reach(store: Store) -> Store:
            if reachable(store):
                return store
            if not opened:
                gateway = stack.enter_context(Gateway(clock))
                opened.append((gateway, stack.enter_context(tunnel(gateway.port))))
            return TunnelledStore(store, *opened[0])

        yield reach


@contextmanager
def served(store: Store, tunnel: Tunnel, clock: Clock = SYSTEM) -> Iterator[Store]:
    """`with served(repository.store, tunnel) as store:` one store, for a host at the other end of the tunnel."""
    with serving(tunnel, clock) as reach:
        yield reach(store)
