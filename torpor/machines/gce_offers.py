"""What Google rents out, as far as torpor knows: machine types, where they are, what they can do. Data with a date.

Google tells no stock: whether a zone has one left, or the type at all, is known once it is asked to make it.
"""

from __future__ import annotations

from typing import NamedTuple

from torpor.access import Access
from torpor.machines import gce_prices
from torpor.machines.gce_request import Kind, disk_gb, disk_type
from torpor.plan import gpus
from torpor.plan.offers import Offer, Wish

AS_OF = "2026-11-22"
_GIB = 1 << 30
_GBIT = 1_000_000_000


class Type(NamedTuple):
    """`gpu_bytes`: memory of one GPU. `net`: bits a second that it can download."""

    name: str
    gpu: str = ""
    gpus: int = 0
    gpu_bytes: int = 0
    net: float = 1.0 * _GBIT
    accelerators: str = ""


# Downloads: shared-core machines about 1 Gbit/s; the others' figures are Google's limits for sending, halved, as nobody measured them.
TYPES = (
    Type("e2-medium"),
    Type("e2-standard-2", net=2.0 * _GBIT),
    Type("n1-standard-4", "T4", 1, 16 * _GIB, 5.0 * _GBIT, "nvidia-tesla-t4:1"),
    Type("g2-standard-4", "L4", 1, 24 * _GIB, 5.0 * _GBIT),
    Type("g2-standard-24", "L4", 2, 24 * _GIB, 16.0 * _GBIT),
    Type("g2-standard-48", "L4", 4, 24 * _GIB, 25.0 * _GBIT),
    Type("a2-highgpu-1g", "A100", 1, 40 * _GIB, 12.0 * _GBIT),
    Type("a2-highgpu-2g", "A100", 2, 40 * _GIB, 16.0 * _GBIT),
    Type("a2-ultragpu-1g", "A100 80GB", 1, 80 * _GIB, 12.0 * _GBIT),
    Type("a3-highgpu-1g", "H100", 1, 80 * _GIB, 12.0 * _GBIT),
    Type("a3-highgpu-8g", "H100", 8, 80 * _GIB, 50.0 * _GBIT),
)
ZONES = {  # region: country, letters of its zones. A type that a zone has not is answered as gone.
    "europe-west4": ("NL", "abc"),
    "us-central1": ("US", "abcf"),
    "us-east1": ("US", "bcd"),
    "us-east5": ("US", "abc"),
    "us-west1": ("US", "abc"),
    "us-west4": ("US", "abc"),
}
_DISK_SPEED = {"pd-standard": 12e6, "pd-balanced": 100e6}  # bytes a second of 100 GB


def offers(wish: Wish, accounts: Access) -> list[Offer]:
    """One for each zone and type that fits; where the wish is for an interruptible machine, the spot one beside it.

    One whose price is not known has the price 0, which the ranking takes for "not told" and never for free. `GCE_PRICES` tells it.
    """
    size, disk = disk_gb(accounts, wish.disk), disk_type(accounts)
    found = []
    for kind in _types(wish, accounts):
        for region, (country, letters) in ZONES.items():
            for spot in (True, False) if wish.interruptible else (False,):
                price = _price(kind, region, spot, disk, size, accounts)
                for letter in letters:
                    zone = f"{region}-{letter}"
                    found.append(
                        Offer(
                            kind="gce", id=Kind(zone, kind.name, spot, kind.accelerators).id, gpu=kind.gpu, gpus=kind.gpus,
                            gpu_bytes=kind.gpu_bytes, country=country, place=zone, price=price, interruptible=spot, down=kind.net,
                            up=kind.net, disk=size * _GIB, disk_speed=_DISK_SPEED.get(disk, 0.0), machine=kind.name,
                        )
                    )  # fmt: skip
    return found


def _types(wish: Wish, accounts: Access) -> list[Type]:
    """Those of the table that fit; or, of machines without a GPU, the one that `GCE_MACHINE_TYPE` names."""
    own = accounts.get("GCE_MACHINE_TYPE")
    if own and not wish.gpus:
        return [next((kind for kind in TYPES if kind.name == own), Type(own))]
    return [kind for kind in TYPES if kind.gpus == wish.gpus and (not wish.gpus or gpus.fits(wish.gpu, kind.gpu, kind.gpu_bytes))]


def _price(kind: Type, region: str, spot: bool, disk: str, size: int, accounts: Access) -> float:
    own, stored = gce_prices.machine(kind.name, region, spot, accounts), gce_prices.disk(disk, size)
    return 0.0 if own is None or stored is None else own + stored + gce_prices.ADDRESS[spot]
