"""Machines to rent: what is wanted, what is offered, which offer is best and why the others lost. Pure."""

from __future__ import annotations

import msgspec

GB = 1_000_000_000


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What machine is wanted. `gpu`: a name such as `RTX 4090`, in any spelling; empty: any GPU; `gpus` 0: a machine without one.

    `region`: a country (`US`), or `eu`, `na`, `asia`, …; empty: anywhere. `max_price`: dollars an hour, with the disk; 0 no limit.
    `disk`: bytes. `down`: bits a second that it must at least be able to download. `fetch`: bytes it will download before it is
    ready, which cost money and time.
    """

    gpu: str = ""
    gpus: int = 1
    region: str = ""
    max_price: float = 0.0
    interruptible: bool = False
    disk: int = 0
    down: float = 0.0
    reliability: float = 0.95
    fetch: int = 0


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that can be rented now. `price`: dollars an hour of all that runs, `disk` included; for an interruptible one the
    lowest bid. `down`, `up`: bits a second. `down_cost`: dollars a byte. `disk`: bytes that it can have. `disk_speed`: bytes a second.
    `hours`: how long it can be had at most; 0: not told. `reliability`: 0 to 1."""

    kind: str
    id: str
    gpu: str = ""
    gpus: int = 0
    gpu_bytes: int = 0
    country: str = ""
    place: str = ""
    price: float = 0.0
    interruptible: bool = False
    down: float = 0.0
    up: float = 0.0
    down_cost: float = 0.0
    disk: int = 0
    disk_speed: float = 0.0
    hours: float = 0.0
    reliability: float = 1.0
    direct: bool = True
    driver: str = ""
    machine: str = ""


class Lost(msgspec.Struct, frozen=True):
    """An offer that was not taken, and why, in words."""

    offer: Offer
    why: str


class Ranking(msgspec.Struct, frozen=True):
    """Offers to try, best first, with the seconds each would need to fetch; and those that are out."""

    best: list[Offer]
    lost: list[Lost]
