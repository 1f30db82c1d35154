"""`vast:ID`: one instance of vast.ai, a container on somebody's computer. Which is made by an offer alone: torpor.machines.vast_market."""

from __future__ import annotations

import os
import posixpath
import re
import time
from collections.abc import Callable
from typing import Any

from torpor.errors import DestroyRefused, MachineError, UsageError
from torpor.machines import lease as leases
from torpor.machines.base import Access, Ground, Proof, Status, Traits, Unused
from torpor.machines.vast_client import Client, Pause
from torpor.machines.vast_end import end
from torpor.machines.vast_errors import NeverBoots, VastGone
from torpor.machines.vast_papers import Drawer, Papers
from torpor.machines.vast_state import Seen, addresses, judge, not_running, rental, text
from torpor.ssh import link
from torpor.ssh.base import Target, Unreachable

WORKSPACE = "/workspace"
BOOT = 480.0  # seconds; an image that is not there yet takes minutes to load, on a slow link hours
_POLL = 5.0
_NAME = re.compile(r"([1-9][0-9]{0,17})(/.*)?\Z")

Shown = Callable[[str, int], str]

TRAITS = Traits(
    deletes="Destroying it deletes its disk and all that is on it, at once.",
    billed_stopped="Its disk goes on being billed, by the hour, until it is destroyed.",
    notice=0.0,
    disk_min=8_000_000_000,
)


class VastMachine:
    """`vast:ID`, or `vast:ID/absolute/path` for another workspace than /workspace. `pause` waits so many seconds; `shown` tells the host
    key that an address shows."""

    traits = TRAITS

    def __init__(
        self, name: str, ground: Ground, *, client: Client | None = None, pause: Pause = time.sleep, shown: Shown = link.shown
    ) -> None:
        found = _NAME.match(name)
        if found is None:
            raise UsageError(f"{name[:60]!a} is no instance of vast.ai.", remedy="Write its number: vast:1234567")
        self.id = found[1]
        self.workspace = _path(found[2] or WORKSPACE)
        self._ground = ground
        self._clock = ground.clock
        self._pause = pause
        self._shown = shown
        self._drawer = Drawer(ground, self.id)
        self._client = client or Client(ground.accounts, ground.clock, pause)

    @property
    def address(self) -> str:
        return f"vast:{self.id}" + ("" if self.workspace == WORKSPACE else self.workspace)

    @property
    def rental(self) -> str:
        return rental(self.id)

    def status(self) -> Status:
        found, papers, seen = self._look()
        if found is None:
            return self._absent(papers)
        detail = f"told to end, and still there: {seen.detail}" if papers.ending else seen.detail
        label = str(leases.parse(text(found, "label")) or "")
        return Status(self.address, seen.state, self.rental, detail, seen.price, label, ending=bool(papers.ending))

    def _look(self) -> tuple[dict[str, Any] | None, Papers, Seen]:
        """What the service has, what is known here, and what that makes of it. One that runs has taken our host key, too."""
        papers = self._drawer.read()
        found = self._client.show(self.id)
        if found is None:
            return None, papers, Seen("missing", "", None)
        seen = judge(found, papers, self._clock.now())
        if seen.state == "running" and papers.host_key and papers.ready != papers.asked:
            why = self._not_ready(found, papers.host_key)
            if why:
                return found, papers, seen._replace(state="starting", detail=why)
            papers = self._drawer.note(ready=papers.asked)
        return found, papers, seen

    def _not_ready(self, found: dict[str, Any], expected: str) -> str:
        """It is said to run before its script is done; until then it shows a key of its image's, and nobody may log in. Only looked at,
        and only until the right one is seen: later another one is another machine."""
        for host, port in addresses(found):
            try:
                return "" if self._shown(host, port) == expected else "its host key is being installed"
            except Unreachable:
                continue
        return "its SSH server does not answer yet"

    def _absent(self, papers: Papers) -> Status:
        if papers.destroyed:
            return Status(self.address, "destroyed", self.rental)
        if papers.account and papers.account != self._client.account:
            return Status(self.address, "missing", detail="it was made by another account's key")
        if papers.ending:
            return Status(self.address, "destroyed", self.rental)
        if papers.wish:
            return Status(self.address, "destroyed", self.rental, "it is gone, and not by us")
        return Status(self.address, "missing")

    def create(self) -> Status:
        """Start it if it is stopped, and wait until it runs. Raises `NeverBoots` if it does not in time; it is left as it is then."""
        status = self.status()
        if status.state in ("missing", "destroyed", "unreachable"):
            raise not_running(self.address, status.state, status.detail)
        if status.state == "running":
            return status
        if status.state in ("stopped", "interrupted"):
            self._drawer.note(wish="running", asked=self._clock.now())
            self._client.set_state(self.id, "running")
        return self.wait_ready()

    def stop(self) -> Status:
        """Stop it: its disk stays, and stays billed."""
        self._drawer.note(wish="stopped", asked=self._clock.now())
        self._client.set_state(self.id, "stopped")
        return self.status()

    def bid(self, price: float) -> None:
        """Offer so many dollars an hour for it, without the disk, while it is an interruptible one."""
        self._client.bid(self.id, price)

    def wait_ready(self, seconds: float = BOOT) -> Status:
        """Wait until it runs. Raises `NeverBoots`: it never will, it has waited 120 s for a GPU, or the time is over."""
        end = self._clock.now() + seconds
        while True:
            status = self.status()
            if status.state == "running":
                return status
            why = f" ({status.detail})" if status.detail else ""
            if status.state != "starting":
                raise NeverBoots(f"{self.address} is {status.state} instead of starting{why}.", remedy="Take another offer.")
            if self._clock.now() >= end:
                raise NeverBoots(f"{self.address} did not boot within {seconds:.0f} s{why}.", remedy="Take another offer.")
            self._pause(_POLL)

    def access(self) -> Access:
        found, papers, seen = self._look()
        if found is None:
            gone = self._absent(papers)
            raise not_running(self.address, gone.state, gone.detail)
        if seen.state != "running":
            raise not_running(self.address, seen.state, seen.detail)
        first, *others = addresses(found)
        target = Target(
            host=first[0],
            port=first[1],
            user=self._ground.accounts.get("VAST_SSH_USER") or "root",
            host_key=papers.host_key,
            others=tuple(others),
        )
        return Access([os.fsencode(self.workspace)], f".torpor/hosts/{self.rental}".encode(), ssh=target)

    def destroy(self, proof: Proof) -> Status:
        """Destroy it and look until it is gone. An answer of success is not believed: the service has been seen to go on billing. Nor is
        one that it is not there: it is destroyed all the same, and looked for in the list."""
        papers = self._drawer.read()
        found = self._client.show(self.id)
        if found is None and papers.destroyed and papers.destroyed == proof.rental:
            return self._absent(papers)
        proof.check(self.address, self.rental, self._clock)
        if found is None and papers.account not in ("", self._client.account):
            raise MachineError(
                f"{self.address} was made by another account's key, and this one does not see it: IT MAY STILL BE BILLED.",
                safe="The snapshots are untouched.",
                remedy="Set VAST_API_KEY to a key of that account and run the command again.",
            )
        if found is not None:
            self._refuse_kept(proof, found)
        self._end(proof)
        return self._absent(
            self._drawer.note(destroyed=self.rental, ending=self.rental, snapshot=proof.snapshot, ended=self._clock.now())
        )  # fmt: skip

    def _end(self, proof: Proof) -> None:
        """It is written down first, so that nobody here takes the machine over meanwhile. By a lease, its label is read again before each
        request: these wait for their turn and are repeated, and in that time somebody may claim it from another computer."""

        def still_unused() -> None:
            found = self._client.show(self.id) or next((row for row in self._client.instances() if text(row, "id") == self.id), None)
            if found is None:  # no label says that it may go, and none has to
                raise VastGone(f"{self.address} is not there.")
            self._refuse_kept(proof, found)

        self._drawer.note(ending=self.rental, snapshot=proof.snapshot)
        try:
            end(self._client, self.id, self.address, self._clock, self._pause, still_unused if isinstance(proof, Unused) else None)
        except DestroyRefused:
            self._drawer.note(ending="", snapshot="")
            raise

    def _refuse_kept(self, proof: Proof, found: dict[str, Any]) -> None:
        """A lease ends only what was never handed over, by the service's own word."""
        if isinstance(proof, Unused):
            said = text(found, "label")
            label = leases.parse(said)
            if label is None or label.until is None:
                raise DestroyRefused(
                    f"{self.address} is not under a lease: its label is {said!r}.",
                    safe="The machine was left running.",
                    remedy="Hibernate it: a receipt proves that it may go.",
                )


def _path(path: str) -> str:
    clean = posixpath.normpath(path)
    if clean != path.rstrip("/") or clean.startswith("//") or clean == "/" or not path.isprintable():
        raise UsageError(f"{path[:60]!a} is no workspace.", remedy="Write an absolute path, below the root folder: vast:1234567/data")
    return clean
