"""What Google rents out, as far as torpor knows: machine types, where they are, what they can do. Data with a date.

Google tells no stock: whether a zone has one left is known once it is asked to make it. A type without a known price is not offered,
since it could only be ranked as free: its price is said in `GCE_PRICES` (gce_prices).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from torpor.access import Access
from torpor.errors import MachineError
from torpor.machines import gce_prices
from torpor.machines.gce_request import Kind, disk_gb, disk_type
from torpor.plan.offers import Offer, Wish

AS_OF = "2026-11-22"
_GIB = 1 << 30
_GBIT = 1_000_000_000


class GceNoPrice(MachineError):
    """Google may have such a machine, and what it costs is not known here."""


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
_CONTINENTS = {"eu": ("NL",), "europe": ("NL",), "na": ("US",), "northamerica": ("US",)}
_DISK_SPEED = {"pd-standard": 12e6, "pd-balanced": 100e6}  # bytes a second of 100 GB


def offers(wish: Wish, accounts: Access) -> list[Offer]:
    """One for each zone and type that fit and have a price, spot ones where the wish is for an interruptible machine.

    Raises `GceNoPrice` where types fit and none has a price.
    """
    size, disk = disk_gb(accounts, wish.disk), disk_type(accounts)
    disk_price = gce_prices.disk(disk, size)
    types = [kind for kind in _types(accounts, wish) if _fits(kind, wish)]
    found = []
    for region, (country, letters) in ZONES.items():
        if not _near(region, country, wish.region):
            continue
        for kind in types:
            own = gce_prices.machine(kind.name, region, wish.interruptible, accounts)
            if own is None or disk_price is None:
                continue
            price = own + disk_price + gce_prices.ADDRESS[wish.interruptible]
            for letter in letters:
                zone = f"{region}-{letter}"
                found.append(
                    Offer(
                        kind="gce", id=Kind(zone, kind.name, wish.interruptible, kind.accelerators).id, gpu=kind.gpu, gpus=kind.gpus,
                        gpu_bytes=kind.gpu_bytes, country=country, place=zone, price=price, interruptible=wish.interruptible,
                        down=kind.net, up=kind.net, disk=size * _GIB, disk_speed=_DISK_SPEED.get(disk, 0.0), machine=kind.name,
                    )
                )  # fmt: skip
    if types and not found and any(_near(region, country, wish.region) for region, (country, _) in ZONES.items()):
        names = ", ".join(kind.name for kind in types)
        raise GceNoPrice(
            f"What {names}{' as a spot machine' if wish.interruptible else ''} costs there{'' if disk_price else ' with that disk'} is not known.",
            safe="Nothing was made.",
            remedy="Look the price up, and say it: GCE_PRICES=TYPE=DOLLARS or TYPE/spot=DOLLARS, without disk and address.",
        )
    return found


def _types(accounts: Access, wish: Wish) -> list[Type]:
    """Those of the table; or, of machines without a GPU, the one that `GCE_MACHINE_TYPE` names."""
    own = accounts.get("GCE_MACHINE_TYPE")
    if own and not wish.gpus:
        return [next((kind for kind in TYPES if kind.name == own), Type(own))]
    return list(TYPES)


def _fits(kind: Type, wish: Wish) -> bool:
    if wish.gpus == 0:
        return kind.gpus == 0
    return kind.gpus >= wish.gpus and _plain(wish.gpu) in _plain(kind.gpu)


def _near(region: str, country: str, wanted: str) -> bool:
    """`wanted`: a country, a continent, a region of Google's, or nothing."""
    word = _plain(wanted)
    return word in ("", _plain(country), _plain(region)) or country in _CONTINENTS.get(word, ())


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
