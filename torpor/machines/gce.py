"""A machine of Google Compute Engine. One that only its provider makes: see gce_provider."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from torpor.errors import DestroyRefused, MachineError, UsageError
from torpor.machines.base import Access, Ground, OfferGone, Proof, Status, Traits, Unused
from torpor.machines.gce_client import Client, pauses
from torpor.machines.gce_papers import Drawer, Papers
from torpor.machines.gce_place import Place, parse, rental_of
from torpor.machines.gce_request import HOST_KEY, SCRIPT, USER, label_of
from torpor.machines.gce_status import address, forget_script, metadata, status
from torpor.ssh.base import Target

TRAITS = Traits(
    deletes="Deleting the instance deletes its boot disk. A stopped or preempted one keeps its disk.",
    billed_stopped="Its disk goes on costing: about $0.014 an hour for 100 GB; a preempted one is stopped, and costs that.",
    notice=30.0,
    disk_min=10 << 30,
)

_BOOT = 600.0  # seconds that a start may take
_SETTLE = 300.0  # seconds that a stop may take


class GceMachine:
    """`gce:PROJECT/ZONE/NAME[/absolute/path]`. Google is asked each time; this computer's papers tell only what Google forgets."""

    traits = TRAITS

    def __init__(self, name: str, ground: Ground, pause: Callable[[float], None] = time.sleep) -> None:
        self.place: Place = parse(name)
        self._accounts = ground.accounts
        self._clock = ground.clock
        self._pause = pause
        self._client = Client(self.place.project, ground, pause)
        self._drawer = Drawer(ground.folder, self.place)

    @property
    def address(self) -> str:
        return self.place.address

    def status(self) -> Status:
        found = self._client.get(self.place)
        return self._gone() if found is None else self._told(found)

    def create(self) -> Status:
        """Adopt the one that runs or start the one that is stopped, and wait until it can be used. Raises `OfferGone` if the zone has no
        room for it now."""
        told = self.status()
        if told.state in ("missing", "destroyed"):
            raise MachineError(
                f"{self.address} is not there, and only an offer makes a machine.", safe="Nothing was made.",
                remedy="Make one by torpor wake; it chooses among the offers.",
            )  # fmt: skip
        if told.state in ("stopped", "interrupted"):
            told = self.start()
        for wait in pauses(_BOOT):
            if told.state != "starting":
                break
            self._pause(wait)
            told = self.status()
        if told.state != "running":
            raise MachineError(
                f"{self.address} does not get to run: {told.detail or told.state}.",
                safe="It is as it was, and billed.",
                remedy="Look at its serial port in Google's console; destroy it if it was never used.",
            )
        return told

    def start(self) -> Status:
        """Start a stopped or preempted one: same disk, same rental, another address. Raises `OfferGone`; its disk is then kept."""
        found = self._client.get(self.place)
        for wait in pauses(_SETTLE):
            if found is None or found.status not in ("STOPPING", "PENDING_STOP", "SUSPENDING"):
                break
            self._pause(wait)
            found = self._client.get(self.place)
        try:
            self._client.start(self.place)
        except OfferGone as error:
            raise type(error)(
                error.what,
                safe="It is stopped; its disk is kept, and goes on costing.",
                remedy="Try again later, or wake its last snapshot on another machine: torpor wake latest.",
            ) from None
        return self.status()

    def stop(self) -> Status:
        """Stop it, and wait until it is: the disk is kept, and goes on costing."""
        self._client.stop(self.place)
        return self.status()

    def access(self) -> Access:
        found = self._client.get(self.place)
        told = self._gone() if found is None else self._told(found)
        host = "" if found is None else address(found)
        if told.state != "running" or not host:
            raise MachineError(
                f"{self.address} is {told.state}{' and has no address' if told.state == 'running' else ''}.",
                safe="Nothing was changed.",
                remedy="Wait until it runs." if told.state == "starting" else "Start it, or wake a snapshot on another machine.",
            )
        self._tidy(found)
        user = self._accounts.get("GCE_SSH_USER") or USER
        target = Target(host=host, port=self._port(), user=user, host_key=metadata(found).get(HOST_KEY, ""))
        return Access([self.place.path.encode()], f".torpor/hosts/{told.rental}".encode(), ssh=target)

    def _tidy(self, found: Any) -> None:
        """One that was handed over while it booted has its start-up script yet. It has run by now, so the host's private key goes from
        the metadata; if that fails, the next time."""
        label = label_of(found.labels)
        if label is not None and label.until is None and SCRIPT in metadata(found):
            with suppress(MachineError):
                if self._client.attribute(self.place):
                    forget_script(self._client, self.place, found)

    def destroy(self, proof: Proof) -> Status:
        found = self._client.get(self.place)
        papers = self._drawer.read()
        if found is None:
            if not papers.rental or papers.rental != proof.rental or proof.machine != self.address:
                raise DestroyRefused(
                    f"{self.address} is not there, so there is nothing that a proof could be of.", safe="Nothing was changed."
                )
            return self._destroyed(papers)
        rental = rental_of(found.id)
        proof.check(self.address, rental, self._clock)
        self._refuse_kept(proof, found)
        if found.deletion_protection:
            raise DestroyRefused(
                f"{self.address} is protected against deletion.", safe="It was left as it is.",
                remedy="Take the protection off in Google's console, then destroy it again.",
            )  # fmt: skip
        before = Papers(rental, "made") if papers.state == "leaving" else papers
        papers = Papers(rental, "leaving", proof.snapshot, _left_behind(found))
        self._drawer.write(papers)
        try:
            self._client.delete(self.place, found.id, lambda found: self._refuse_kept(proof, found))
        except DestroyRefused:
            self._drawer.write(before)
            raise
        return self._destroyed(papers)

    def _refuse_kept(self, proof: Proof, found: Any) -> None:
        """A lease ends only what was never handed over. Its labels are read again before each request, since somebody may claim it from
        another computer meanwhile."""
        if isinstance(proof, Unused) and ((label := label_of(found.labels)) is None or label.until is None):
            raise DestroyRefused(
                f"{self.address} was handed over to its user: only a proof ends it.", safe="It was left as it is.",
                remedy="Hibernate it.",
            )  # fmt: skip

    def remember(self, rental: str) -> None:
        """Note that it was made, so that it is known if Google has it no more."""
        self._drawer.write(Papers(rental, "made"))

    def _destroyed(self, papers: Papers) -> Status:
        self._drawer.write(Papers(papers.rental, "destroyed", papers.snapshot, papers.detail))
        return self._gone()

    def _gone(self) -> Status:
        """Of what Google has not. A deletion that was asked for and not seen to the end is at its end now."""
        papers = self._drawer.read()
        if papers.state in ("leaving", "destroyed"):
            return Status(self.address, "destroyed", papers.rental, papers.detail)
        return Status(self.address, "missing", detail="Google has it no more; torpor did not delete it" if papers.rental else "")

    def _told(self, found: Any) -> Status:
        rental = rental_of(found.id)
        papers = self._drawer.read()
        known = papers.rental == rental and papers.state == "ready"
        leaving = papers.rental == rental and papers.state == "leaving"
        told = status(self._client, self.place, found, self._accounts, ready=known)
        if told.state == "running" and not known and not leaving:
            self._drawer.write(Papers(rental, "ready"))
        return msgspec.structs.replace(told, ending=leaving)

    def _port(self) -> int:
        text = self._accounts.get("GCE_SSH_PORT") or "22"
        if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
            raise UsageError(f"GCE_SSH_PORT={text} is no port.", remedy="Unset it, or write a number.")
        return int(text)


def _left_behind(found: Any) -> str:
    kept = sorted(disk.source.rpartition("/")[2] or disk.device_name for disk in found.disks if not disk.auto_delete)
    return f"its disks {', '.join(kept)} were not to go with it: they stay, and go on costing" if kept else ""
