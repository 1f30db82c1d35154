"""Commands over SSH. Host keys are pinned and always checked; a connection is made when it is needed, and again after a break."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from torpor.access import Access
from torpor.clock import SYSTEM, Clock
from torpor.ssh import trust
from torpor.ssh.base import LoginRefused, Ran, Target, Unreachable
from torpor.ssh.channel import SshChannel
from torpor.ssh.defaults import defaults
from torpor.ssh.link import Link, Refused, dial
from torpor.ssh.talk import pump

PATIENCE = 60.0  # seconds for which a new machine may refuse our key: providers bring it there after the start
_AGAIN = 3.0  # seconds between two logins


class SshShell:
    """A `Shell` over SSH, for any number of threads: one connection carries eight commands, and more have another.

    `identity` and `known_hosts` are used where the target names no key of its own. Without an identity, logins are tried with the key
    `own`, if there is one, then with those of the user's agent and ~/.ssh. `patience`: seconds for which a first login that is
    refused is tried again. `pause` waits that many seconds.
    """

    def __init__(
        self,
        target: Target,
        *,
        identity: str = "",
        known_hosts: Sequence[Path] = (),
        own: str = "",
        clock: Clock = SYSTEM,
        pause: Callable[[float], None] = time.sleep,
        patience: float = PATIENCE,
    ) -> None:
        self.target = target
        self.identity = target.identity or identity
        self.known_hosts = list(known_hosts)
        self.own = own
        self._clock = clock
        self._pause = pause
        self._patience = patience
        self._addresses = [(target.host, target.port), *target.others]
        self._lock = threading.RLock()
        self._links: list[Link] = []

    @property
    def address(self) -> tuple[str, int]:
        """Where it was last reached, or will be tried first."""
        return self._addresses[0]

    def run(self, command: str, stdin: bytes | IO[bytes] = b"", seconds: float = 60.0) -> Ran:
        return pump(self.open(command), stdin, seconds, self._whom)

    def open(self, command: str) -> SshChannel:
        for _ in range(3):
            link = self._take()
            try:
                raw = link.channel()
            except Refused:  # it broke unnoticed, or the server gives it fewer channels than we thought. Nothing was sent
                self._leave(link)
                link.room = link.busy
                if not link.alive or not link.room:
                    self._drop(link)
                continue
            return SshChannel(link, raw, command, self._whom, partial(self._leave, link))
        raise Unreachable(
            f"{self._whom} opens no channel.",
            safe="Nothing was sent to it.",
            remedy="Look whether the machine is overloaded, then run it again.",
        )

    def close(self) -> None:
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.close()

    @property
    def _whom(self) -> str:
        host, port = self._addresses[0]
        return f"{self.target.user}@{host}:{port}"

    def _take(self) -> Link:
        """A connection with room for one more channel."""
        with self._lock:
            for link in [link for link in self._links if not link.alive]:
                self._drop(link)
            for link in self._links:
                if link.busy < link.room:
                    break
            else:
                link = self._login()
                self._links.append(link)
            link.busy += 1
            return link

    def _leave(self, link: Link) -> None:
        with self._lock:
            link.busy -= 1

    def _drop(self, link: Link) -> None:
        with self._lock:
            if link in self._links:
                self._links.remove(link)
        link.close()

    def _login(self) -> Link:
        until = self._clock.now() + self._patience
        while True:
            try:
                link = self._dial()
            except LoginRefused:
                if self._clock.now() + _AGAIN > until:
                    raise
                self._pause(_AGAIN)
            else:
                self._patience = 0.0  # it has let us in once
                return link

    def _dial(self) -> Link:
        """The first address that answers; it is tried first from now on. Another key than the pinned one ends the search."""
        failures: list[Unreachable] = []
        for address in self._addresses:
            host, port = address
            pinned = [self.target.host_key] if self.target.host_key else trust.known(self.known_hosts, host, port)
            try:
                link = dial(host, port, self.target.user, pinned, self.identity, self.own)
            except Unreachable as error:
                failures.append(error)
                continue
            self._addresses = [address, *(other for other in self._addresses if other != address)]
            return link
        if len(failures) == 1:
            raise failures[0]
        raise Unreachable(" ".join(error.what for error in failures), safe=failures[0].safe, remedy=failures[0].remedy)


def shell(target: Target, folder: Path, accounts: Access, clock: Clock = SYSTEM, *, patience: float = PATIENCE) -> SshShell:
    """A shell with this home's defaults: `folder` is where it keeps its machines, `accounts` may name files to use instead."""
    chosen = defaults(target, folder, accounts)
    return SshShell(target, identity=chosen.identity, known_hosts=chosen.known_hosts, own=chosen.own, clock=clock, patience=patience)
