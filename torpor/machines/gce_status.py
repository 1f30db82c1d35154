"""What an instance of Google's is, as torpor tells it: its state in Google's own words, its price in that state, its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torpor.machines import gce_prices
from torpor.machines.base import State, Status
from torpor.machines.gce_place import rental_of
from torpor.machines.gce_request import DISK_TYPE, SCRIPT, label_of

if TYPE_CHECKING:
    from torpor.access import Access
    from torpor.machines.gce_client import Client
    from torpor.machines.gce_place import Place

STATES: dict[str, State] = {
    "PROVISIONING": "starting",
    "STAGING": "starting",
    "PENDING": "starting",
    "RUNNING": "running",
    "REPAIRING": "unreachable",
    "STOPPING": "stopped",
    "PENDING_STOP": "stopped",
    "DEPROVISIONING": "stopped",
    "TERMINATED": "stopped",
    "SUSPENDING": "stopped",
    "SUSPENDED": "stopped",
}


def status(client: Client, place: Place, instance: Any, accounts: Access, ready: bool = False) -> Status:
    """Its status. `ready`: it is known that its start-up script has done its work; else Google is asked for that."""
    state = STATES.get(instance.status, "unreachable")
    words = [instance.status, instance.status_message]
    if state == "running" and not ready and SCRIPT in metadata(instance) and client.attribute(place) == "":
        state, words = "starting", [*words, "its host key is being installed"]
    if state == "stopped" and instance.status in ("STOPPING", "TERMINATED") and (told := client.preempted(place, instance)):
        state, words = "interrupted", [*words, told]
    price = price_of(place, instance, accounts)
    if price is None:
        words.append("what it costs is not known")
    detail = "; ".join(word.rstrip(".") for word in words if word)
    return Status(place.address, state, rental_of(instance.id), detail, price, str(label_of(instance.labels) or ""))


def price_of(place: Place, instance: Any, accounts: Access) -> float | None:
    """$ an hour in the state it is in: a stopped one costs its disks. None where a part is not known."""
    disks = 0.0
    for attached in instance.disks:
        cost = gce_prices.disk(metadata(instance).get(DISK_TYPE, "") if attached.boot else "", attached.disk_size_gb)
        if cost is None:
            return None
        disks += cost
    if STATES.get(instance.status) == "stopped":
        return None if instance.status.startswith("SUSPEND") else disks  # memory that is kept costs too
    if instance.guest_accelerators and not is_listed(instance, accounts):
        return None
    spot = is_spot(instance)
    own = gce_prices.machine(machine_type(instance), place.region, spot, accounts)
    addresses = sum(bool(interface.access_configs) for interface in instance.network_interfaces)
    return None if own is None else own + disks + addresses * gce_prices.ADDRESS[spot]


def is_listed(instance: Any, accounts: Access) -> bool:
    """Whether `GCE_PRICES` has its type: then the figure is meant to have its GPUs in it."""
    return gce_prices.is_own(machine_type(instance), is_spot(instance), accounts)


def is_spot(instance: Any) -> bool:
    return bool(instance.scheduling.provisioning_model == "SPOT" or instance.scheduling.preemptible)


def machine_type(instance: Any) -> str:
    return str(instance.machine_type).rpartition("/")[2]


def metadata(instance: Any) -> dict[str, str]:
    return {item.key: item.value for item in instance.metadata.items}


def forget_script(client: Client, place: Place, instance: Any) -> None:
    """Take the start-up script, with the host's private key, out of its metadata. Raises `GceChanged`."""
    client.set_metadata(place, instance, {key: value for key, value in metadata(instance).items() if key != SCRIPT})


def address(instance: Any) -> str:
    """The first external IPv4 address, else the first internal one; empty if it has none yet."""
    inner = ""
    for interface in instance.network_interfaces:
        for access in interface.access_configs:
            if access.nat_i_p:
                return str(access.nat_i_p)
        inner = inner or str(interface.network_i_p)
    return inner
