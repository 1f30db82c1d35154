"""A tunnel that is kept open: broken, it is opened again at the same port of the machine, for as long as it is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torpor.errors import TorporError
from torpor.ssh.base import Target
from torpor.ssh.tunnel import Tunnel

_LOOK = 0.5  # seconds between looks at whether the block is over
_BACKOFF = (1.0, 2.0, 5.0, 10.0)  # seconds between tries to open it again; jobs repeat their requests meanwhile


@contextmanager
def kept_open(
    target: Target, here: int, *, identity: str = "", known_hosts: Sequence[Path] = (), port: int = 0
) -> Iterator[Callable[[], int]]:
    """`127.0.0.1:<port on the machine>` leads to our port `here` until the block ends; what is yielded tells the port there.

    `port`: the one to ask for. Raises what `Tunnel.open` raises when it can't be opened at first.
    """
    tunnel = Tunnel(target, here, identity=identity, known_hosts=known_hosts)
    tunnel.open(port)
    over = threading.Event()

    def keep() -> None:
        failures = 0
        while not over.is_set():
            if not tunnel.wait(_LOOK):
                failures = 0
                continue
            if over.wait(_BACKOFF[min(failures, len(_BACKOFF) - 1)] if failures else 0.0):
                return
            try:
                tunnel.open()
            except TorporError:
                failures += 1  # whoever uses it sees requests fail, and says so when its patience is over

    keeper = threading.Thread(target=keep, name="tunnel", daemon=True)
    keeper.start()
    try:
        yield lambda: tunnel.port
    finally:
        over.set()
        keeper.join()
        tunnel.close()
