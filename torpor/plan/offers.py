"""Machines to rent: what is wanted, what is offered, which offer is best and why the others lost. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from torpor.plan import gpus, regions

GB = 1_000_000_000
DAY = 24.0  # hours over which the cost of offers is compared
HOURS_LEFT = 6.0  # that an offer must at least last, beyond the time to fetch
LEAST_BOOT, LEAST_LEASE = 60, 600  # seconds below which machines would be rented and ended without a chance
UNKNOWN_DOWN = 100e6  # bits a second that are assumed of an offer that tells none


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What machine is wanted. `gpu`: a name such as `RTX 4090`, in any spelling; empty: any GPU; `gpus` 0: a machine without one.

    `region`: a country (`US`), or `eu`, `na`, `asia`, …; empty: anywhere. `max_price`: dollars an hour, with the disk; 0 no limit.
    `disk`: bytes. `down`: bits a second that it must at least be able to download. `fetch`: bytes it will download before it is
    ready, which cost money and time. `spend`: dollars that it may cost until it is ready, that download included; 0 no limit.
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
    spend: float = 0.0


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that can be rented now. `price`: dollars an hour of all that runs, `disk` included; for an interruptible one what would
    be bid, and `bid` is that without the disk. `down`, `up`: bits a second. `down_cost`: dollars a byte. `disk`: bytes that it can have.
    `disk_speed`: bytes a second. `hours`: how long it can be had at most; 0: not told. `reliability`: 0 to 1. `single`: it is
    one machine, so that who takes it is the last to have it."""

    kind: str
    id: str
    gpu: str = ""
    gpus: int = 0
    gpu_bytes: int = 0
    country: str = ""
    place: str = ""
    price: float = 0.0
    bid: float = 0.0
    interruptible: bool = False
    down: float = 0.0
    up: float = 0.0
    down_cost: float = 0.0
    disk: int = 0
    disk_speed: float = 0.0
    hours: float = 0.0
    reliability: float = 1.0
    direct: bool = True
    single: bool = False
    driver: str = ""
    machine: str = ""


class Lost(msgspec.Struct, frozen=True):
    """An offer that was not taken, and why, in words."""

    offer: Offer
    why: str


class Ranking(msgspec.Struct, frozen=True):
    """Offers to try, best first, and those that are out. `seconds` and `cost` tell what each is judged by."""

    best: list[Offer]
    lost: list[Lost]


def seconds(wish: Wish, offer: Offer) -> float:
    """How long the offer's machine would download what is wanted, and write it: the slower of the two."""
    write = wish.fetch / offer.disk_speed if offer.disk_speed > 0 else 0.0
    return max(8 * wish.fetch / (offer.down if offer.down > 0 else UNKNOWN_DOWN), write)


def cost(wish: Wish, offer: Offer) -> float:
    """Dollars of a first day of work: its hours, those of the download before it, and the bytes of that."""
    return offer.price * (DAY + seconds(wish, offer) / 3600) + wish.fetch * offer.down_cost


def lasts(wish: Wish, offer: Offer) -> float:
    """Seconds for which what may be spent pays for the offer's machine, beside the download; infinite without a limit."""
    if not wish.spend:
        return math.inf
    return max(0.0, wish.spend - wish.fetch * offer.down_cost) / offer.price * 3600


def rank(wish: Wish, offers: Iterable[Offer]) -> Ranking:
    """Judge every offer: those that fit by their `cost`, then by reliability and time to fetch; of the others why not.

    The same offers in another order rank the same. Raises `UsageError` for a region that is none.
    """
    near = regions.countries(wish.region)
    best: list[Offer] = []
    lost: list[Lost] = []
    for offer in offers:
        why = _why_not(wish, offer, near)
        if why:
            lost.append(Lost(offer, why))
        else:
            best.append(offer)
    best.sort(key=lambda offer: _order(wish, offer))
    lost.sort(key=lambda one: _order(wish, one.offer))
    return Ranking(best, lost)


def _order(wish: Wish, offer: Offer) -> tuple[float, float, float, str, int, str, str]:
    return (cost(wish, offer), -offer.reliability, seconds(wish, offer), offer.kind, len(offer.id), offer.id, repr(offer))


def _why_not(wish: Wish, offer: Offer, near: frozenset[str]) -> str:
    """In words; empty if it fits. The first reason that holds, the plainest first."""
    if offer.gpus != wish.gpus:
        return f"it has {_count(offer.gpus)}, not {_count(wish.gpus)}"
    if wish.gpus and not gpus.fits(wish.gpu, offer.gpu, offer.gpu_bytes):
        return f"its GPU is {offer.gpu or 'not told'}"
    if offer.interruptible and not wish.interruptible:
        return "it can be interrupted"
    if near and offer.country not in near:
        return f"it is in {offer.country}" if offer.country else "its country is not told"
    if not (math.isfinite(offer.price) and offer.price > 0):
        return "its price is not told"
    if wish.max_price and offer.price > wish.max_price:
        return f"it costs ${offer.price:.3f} an hour, more than ${wish.max_price:.3f}"
    if lasts(wish, offer) < 1:  # leases are counted in whole seconds
        return f"the download alone costs ${wish.fetch * offer.down_cost:.3f}, and ${wish.spend:.3f} may be spent"
    if offer.disk < wish.disk:
        return f"it has {offer.disk / GB:.0f} GB of disk, {wish.disk / GB:.0f} GB are needed"
    if wish.down and offer.down < wish.down:
        return f"it downloads {offer.down / 1e6:.0f} Mbit/s, less than {wish.down / 1e6:.0f}"
    if offer.reliability < wish.reliability:
        return f"its reliability is {offer.reliability:.3f}, less than {wish.reliability:.3f}"
    if offer.hours and offer.hours < HOURS_LEFT + seconds(wish, offer) / 3600:
        return f"it can be had for {offer.hours:.1f} hours only"
    if not offer.direct:
        return "it has no port of its own: all would go through a proxy that is slow and shared"
    return ""


def _count(number: int) -> str:
    return f"{number} GPU{'' if number == 1 else 's'}" if number else "no GPU"
