"""vast.ai as somebody who rents machines out: what is offered, and a machine made of an offer, once, whatever happens to the answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from torpor.errors import MachineError
from torpor.machines import lease as leases
from torpor.machines.base import Ambiguous, BidTooLow, Ground, HostIdentity, OfferGone, Rented, Status
from torpor.machines.lease import Lease
from torpor.machines.vast import TRAITS, Shown, VastMachine
from torpor.machines.vast_client import Client, Pause
from torpor.machines.vast_end import end
from torpor.machines.vast_errors import VastGone, VastRefused, VastSilent
from torpor.machines.vast_offers import disk_size, offer_of, query
from torpor.machines.vast_papers import Drawer, Papers
from torpor.machines.vast_start import script
from torpor.machines.vast_state import judge, rental, text
from torpor.plan.offers import Offer, Wish
from torpor.ssh import link

IMAGE = "vastai/base-image:@vastai-automatic-tag"  # made by vast.ai, and kept on most hosts, so that it boots in half a minute
_LOOKS = (2.0, 3.0, 5.0, 10.0, 20.0, 20.0)  # seconds before each look for what a lost answer may have made


class VastProvider:
    """One account at vast.ai. Raises `VastDenied` without one."""

    traits = TRAITS

    def __init__(self, ground: Ground, *, client: Client | None = None, pause: Pause = time.sleep, shown: Shown = link.shown) -> None:
        self._ground = ground
        self._clock = ground.clock
        self._pause = pause
        self._shown = shown
        self._client = client or Client(ground.accounts, ground.clock, pause)
        self._client.require_key()

    @property
    def account(self) -> str:
        return self._client.account

    def machine(self, name: str) -> VastMachine:
        return VastMachine(name, self._ground, client=self._client, pause=self._pause, shown=self._shown)

    def offers(self, wish: Wish) -> list[Offer]:
        rows = self._client.search(query(wish, self._ground.accounts.get("VAST_CPU_FILTER")))
        made = (offer_of(row, wish) for row in rows)
        return list({offer.id: offer for offer in made if offer is not None}.values())

    def rent(self, offer: Offer, lease: Lease, wish: Wish, keys: HostIdentity) -> VastMachine:
        """Raises `OfferGone`, `BidTooLow`: nothing is left then; `Ambiguous`: something may be."""
        body = self._body(offer, lease, wish, keys)
        try:
            instance = self._make(offer, body)
        except VastSilent as error:
            if not error.sent:
                raise
            instance = self._adopt(lease, error)
        try:
            made = Papers(host_key=keys.public, label=lease.label, wish="running", asked=self._clock.now(), account=self._client.account)
            Drawer(self._ground, instance).write(made)
            self._client.attach_key(instance, keys.login)
        except BaseException as error:
            self._end(instance, error)
            raise
        return self.machine(instance)

    def hand_over(self, address: str, lease: Lease) -> None:
        """And look whether the label is what was told: by it a machine is swept or not."""
        machine = self.machine(address.partition(":")[2])
        self._client.label(machine.id, lease.kept)
        found = self._client.show(machine.id)
        if found is None or text(found, "label") != lease.kept:
            raise MachineError(
                f"vast.ai did not relabel {address}.",
                safe="It is still under its lease: nothing was put on it that is not stored.",
                remedy="Try again; when the lease ends, `torpor sweep` ends the machine.",
            )
        Drawer(self._ground, machine.id).note(label=lease.kept)

    def rented(self) -> Sequence[Rented]:
        found = []
        for row in self._client.instances():
            label, instance = leases.parse(text(row, "label")), text(row, "id")
            if label is None or not instance.isdigit():
                continue
            try:
                papers = Drawer(self._ground, instance).read()
            except MachineError:  # what is billed is listed, whatever became of its papers
                papers = Papers()
            seen = judge(row, papers, self._clock.now())
            address = f"vast:{instance}"
            found.append(Rented(address, label, Status(address, seen.state, rental(instance), seen.detail, seen.price, str(label))))
        return found

    # making one

    def _body(self, offer: Offer, lease: Lease, wish: Wish, keys: HostIdentity) -> dict[str, Any]:
        """As vast.ai's own package writes it. With a `price` it is an interruptible one; none is said as None."""
        return {
            "client_id": "me",
            "image": self._ground.accounts.get("VAST_IMAGE") or IMAGE,
            "env": {},
            "price": offer.bid if offer.interruptible else None,
            "disk": disk_size(wish),
            "label": lease.label,
            "onstart": script(keys),
            "runtype": "ssh_direc ssh_proxy",
            "cancel_unavail": True,  # else it may wait for its GPU for ever
            "force": False,
            "extra": None,
            "image_login": None,
            "python_utf8": False,
            "lang_utf8": False,
            "use_jupyter_lab": False,
            "jupyter_dir": None,
            "template_hash_id": None,
            "user": None,
        }

    def _make(self, offer: Offer, body: dict[str, Any]) -> str:
        """The number of the instance. A refusal can carry one as well: it is there, stopped, and its disk billed."""
        try:
            answer = self._client.create(offer.id, body)
        except VastGone as error:
            raise OfferGone(f"The offer {offer.id} of vast.ai is gone.", safe="Nothing was made.", remedy="Take the next.") from error
        except VastRefused as error:
            made = str(error.answer.get("new_contract") or "")
            self._clear(made, str(body["label"]), error)
            if error.code in ("insufficient_bid", "invalid_price") or (made and offer.interruptible):
                raise BidTooLow(
                    f"${offer.bid:.4f} an hour does not win the offer {offer.id}: {error.what}", safe="Nothing is left.", remedy="Bid more."
                ) from error
            raise
        made = str(answer.get("new_contract") or "")
        if not made.isdigit():
            raise VastSilent(f"vast.ai did not say which instance it made of {offer.id}.")
        return made

    def _clear(self, made: str, label: str, why: VastRefused) -> None:
        """End what came of a refused request: the machine that it names, and any with the label. Raises `Ambiguous` where in doubt."""
        if made.isdigit():
            self._end(made, why)
        try:
            left = self._labelled(label)
        except MachineError as error:
            raise Ambiguous(
                f"Whether a machine was made with the label {label} is not known: {error.what}", remedy="`torpor sweep` looks again."
            ) from why
        for instance in left:
            self._end(instance, why)

    def _labelled(self, label: str) -> list[str]:
        """Oldest first."""
        found = (text(row, "id") for row in self._client.instances() if row.get("label") == label)
        return sorted((instance for instance in found if instance.isdigit()), key=int)

    def _adopt(self, lease: Lease, lost: VastSilent) -> str:
        """The machine that a lost answer was about. Were there several, the others are ended."""
        trouble: MachineError = lost
        for seconds in _LOOKS:
            self._pause(seconds)
            try:
                found = self._labelled(lease.label)
            except MachineError as error:  # of whatever kind: none of them says that nothing was made
                trouble = error
                continue
            if found:
                for instance in found[1:]:
                    self._end(instance, lost)
                return found[0]
        raise Ambiguous(
            f"vast.ai's answer was lost, and no machine has the label {lease.label} after {sum(_LOOKS):.0f} s: {trouble.what}",
            safe="Nothing was sent twice.",
            remedy="`torpor sweep` looks again and ends what it finds.",
        ) from lost

    def _end(self, instance: str, why: BaseException) -> None:
        """End what must not be left. Raises `Ambiguous` if it can't be seen gone."""
        try:
            end(self._client, instance, f"vast:{instance}", self._clock, self._pause)
        except MachineError as error:
            raise Ambiguous(error.what, safe=error.safe, remedy=error.remedy) from why
