"""Renting machines of Google Compute Engine: offers, the one request that makes a machine, the labels by which it is found again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from torpor.errors import MachineError, TorporError, UsageError
from torpor.machines import gce_offers
from torpor.machines.base import Ambiguous, Ground, HostIdentity, Machine, OfferGone, Rented
from torpor.machines.gce import TRAITS, GceMachine
from torpor.machines.gce_client import Client
from torpor.machines.gce_errors import GceChanged, GceTaken, GceUnavailable
from torpor.machines.gce_place import Place, parse, rental_of
from torpor.machines.gce_request import KEPT, LEASE, SCRIPT, UNTIL, disk_gb, kind_of, label_of, labels, request_id, resource
from torpor.machines.gce_status import STATES, forget_script, metadata, status
from torpor.machines.lease import Lease
from torpor.plan.offers import Offer, Wish

_TURNS = 5  # of relabelling, when somebody else does the same


class GceProvider:
    """The account that `GCE_PROJECT` and the credentials name."""

    traits = TRAITS

    def __init__(self, ground: Ground, pause: Callable[[float], None] = time.sleep) -> None:
        self._ground = ground
        self._pause = pause
        self._project = ground.accounts.get("GCE_PROJECT", "GOOGLE_CLOUD_PROJECT")
        if not self._project:
            raise UsageError("No project of Google's is named.", remedy="Set GCE_PROJECT to its id, such as my-project.")
        parse(f"{self._project}/us-central1-a/x")
        self._client = Client(self._project, ground, pause)

    @property
    def account(self) -> str:
        return self._project

    def offers(self, wish: Wish) -> list[Offer]:
        """From a table: Google tells no stock. See gce_offers."""
        return gce_offers.offers(wish, self._ground.accounts)

    def rent(self, offer: Offer, lease: Lease, wish: Wish, keys: HostIdentity) -> Machine:
        """Make `torpor-<lease>` in the offer's zone, and wait until Google has made it. Its number makes the request one request, so it
        is sent again if no answer comes. Raises `OfferGone` (also of a quota), `Ambiguous`, `MachineError`."""
        kind = kind_of(offer.id)
        place = Place(self._project, kind.zone, f"torpor-{lease.id}")
        asked = resource(place, kind, disk_gb(self._ground.accounts, wish.disk), lease, keys, self._ground.accounts)
        try:
            self._client.insert(place, asked, request_id(lease, kind))
        except (GceUnavailable, GceTaken) as error:
            return self._settle(place, lease, error)
        except MachineError:
            self._leave_nothing(place, lease)
            raise
        try:
            found = self._client.get(place)
        except TorporError as error:
            return self._settle(place, lease, error)
        if found is None:
            raise OfferGone(f"Google made {place.address}, and has it no more.", safe="Nothing is left that costs.", remedy="Take another.")
        return self._machine(place, found, lease)

    def hand_over(self, address: str, lease: Lease) -> None:
        """Relabel it as kept, and take the host's private key out of its metadata, if its start-up script has installed it: one that boots
        yet could never be reached without. See `GceMachine.access`. Raises `MachineError` if it has another lease."""
        place = parse(address.removeprefix("gce:"))
        for _ in range(_TURNS):
            with suppress(GceChanged):
                found = self._there(place)
                mine = found.labels.get(LEASE) == lease.id
                if not mine:
                    raise MachineError(f"{address} has not the lease {lease.id}.", safe="It was left as it is.", remedy="Run torpor sweep.")
                if found.labels.get(UNTIL) != KEPT:
                    self._client.set_labels(place, found, dict(found.labels) | labels(lease, kept=True))
                if SCRIPT in metadata(found) and STATES.get(found.status) != "starting" and self._client.attribute(place) != "":
                    forget_script(self._client, place, found)
                return
        raise GceChanged(f"{address} is being relabelled by somebody else.", safe="It was left as it is.", remedy="Try again.")

    def rented(self) -> Sequence[Rented]:
        """All with a label of torpor's, in all zones. A machine whose labels were changed by hand is not among them."""
        out = []
        for zone, found in self._client.labelled(LEASE):
            label = label_of(found.labels)
            if label is not None:
                place = Place(self._project, zone, found.name)
                out.append(Rented(place.address, label, status(self._client, place, found, self._ground.accounts)))
        return out

    def _there(self, place: Place) -> Any:
        found = self._client.get(place)
        if found is None:
            raise MachineError(f"{place.address} is not there.", safe="Nothing was changed.", remedy="See what torpor sweep finds.")
        return found

    def _settle(self, place: Place, lease: Lease, error: TorporError) -> Machine:
        """After no answer, or one that the name is taken: if the machine with this lease is there, it is the one."""
        try:
            found = self._client.get(place)
        except TorporError as silent:
            found, error = None, silent
        if found is not None and found.labels.get(LEASE) == lease.id:
            return self._machine(place, found, lease)
        if isinstance(error, GceTaken):
            raise error
        raise Ambiguous(
            f"{place.address} may have been made: {error.what}", safe="If it was, it has a lease, and torpor sweep ends it.",
            remedy="Run torpor sweep once Google answers again.",
        ) from None  # fmt: skip

    def _leave_nothing(self, place: Place, lease: Lease) -> None:
        """After Google said that it failed, or it can't be written down here: what is there all the same is deleted."""
        try:
            found = self._client.get(place)
            if found is not None and found.labels.get(LEASE) == lease.id:
                self._client.delete(place, found.id)
        except TorporError as error:
            raise Ambiguous(
                f"{place.address} is of no use, and may have been left, or a part of it: {error.what}",
                safe="If it was, it has a lease, and torpor sweep ends it.", remedy="Run torpor sweep.",
            ) from None  # fmt: skip

    def _machine(self, place: Place, found: Any, lease: Lease) -> GceMachine:
        machine = GceMachine(place.address.removeprefix("gce:"), self._ground, self._pause)
        try:
            machine.remember(rental_of(found.id))
        except BaseException:
            self._leave_nothing(place, lease)
            raise
        return machine
