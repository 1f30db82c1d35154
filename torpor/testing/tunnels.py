"""The shortest of tunnels: a host whose loopback is this computer's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def straight(port: int) -> Iterator[Callable[[], int]]:
    """As `remote.gateway_store.Tunnel` has it: the port is the same at both ends."""
    yield lambda: port
