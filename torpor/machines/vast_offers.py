"""Offers of vast.ai: a wish as its search takes it, and a row of its answer as an offer. Pure."""

from __future__ import annotations

import json
import math
from typing import Any

from torpor.errors import UsageError
from torpor.machines.vast_state import MONTH, number, text
from torpor.plan import regions
from torpor.plan.offers import GB, Offer, Wish

DISK = 32  # GB where the wish names none; it can't grow later
DISK_MIN = 8
OVER = 1.05  # of the lowest bid: one that wins by nothing is lost to the next
MANY = 300  # offers asked for
CPU = '{"resource_type": {"eq": "cpu"}}'  # nowhere written down; VAST_CPU_FILTER says another


def disk_size(wish: Wish) -> int:
    """GB."""
    return max(DISK_MIN, math.ceil(wish.disk / GB)) if wish.disk else DISK


def query(wish: Wish, cpu: str = "") -> dict[str, Any]:
    """Wider than the wish: what can be said exactly is filtered there, so that the answer's bound cuts off little that fits."""
    disk = disk_size(wish)
    found: dict[str, Any] = {
        "verified": {"eq": True},
        "external": {"eq": False},
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "disk_space": {"gte": disk},
        "order": [["dph_total", "asc"]],
        "type": "bid" if wish.interruptible else "on-demand",
        "limit": MANY,
        "allocated_storage": disk,
    }
    if wish.gpus:
        found["num_gpus"] = {"eq": wish.gpus}
        if _name(wish.gpu):
            found["gpu_name"] = {"in": _name(wish.gpu)}
    else:
        found |= _cpu_filter(cpu or CPU)
    near = regions.countries(wish.region)
    if near:
        found["geolocation"] = {"in": sorted(near)}
    return found


def _name(gpu: str) -> list[str]:
    """The names that vast.ai may have for a plain GeForce, which most offers are of; none: all GPUs are asked for, and judged here."""
    words = gpu.upper().replace("_", " ").replace("NVIDIA", "").replace("GEFORCE", "").replace("RTX", "RTX ").split()
    if words[:1] != ["RTX"] or len(words) < 2 or not words[1].isdigit() or words[1] == "6000":
        return []
    more = [{"TI": "Ti", "SUPER": "SUPER", "D": "D"}.get(word, "") for word in words[2:]]
    return [] if "" in more else [" ".join([*words[:2], *more])]


def _cpu_filter(words: str) -> dict[str, Any]:
    try:
        found = json.loads(words)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError("VAST_CPU_FILTER is no filter.", remedy=f"Write it as vast.ai's search takes it: {CPU}")
    return found


def offer_of(row: dict[str, Any], wish: Wish) -> Offer | None:
    """One row of the search; None without a number. Units there: GB, MB/s, Mbit/s, seconds, dollars a GB and a month."""

    def got(name: str) -> float:
        return number(row, name) or 0.0

    instance, where = text(row, "id"), text(row, "geolocation")
    if not instance.isdigit():
        return None
    country = where.rpartition(",")[2].strip().upper()
    bid = math.ceil(got("min_bid") * OVER * 10_000) / 10_000 if wish.interruptible else 0.0
    price = got("dph_total")
    if wish.interruptible:
        price = bid + got("storage_cost") * disk_size(wish) / MONTH if bid else 0.0
    bare = not wish.gpus and (text(row, "resource_type") == "cpu" or not text(row, "gpu_name"))
    return Offer(
        kind="vast",
        id=instance,
        gpu="" if bare else text(row, "gpu_name"),
        gpus=0 if bare else int(got("num_gpus")),
        gpu_bytes=int(got("gpu_ram")) << 20,
        country=country if len(country) == 2 and country.isalpha() else "",
        place=where,
        price=round(price, 6),
        bid=bid,
        interruptible=wish.interruptible,
        down=got("inet_down") * 1e6,
        up=got("inet_up") * 1e6,
        down_cost=got("inet_down_cost") / GB,
        disk=int(got("disk_space") * GB),
        disk_speed=got("disk_bw") * 1e6,
        hours=got("duration") / 3600,
        reliability=min(1.0, number(row, "reliability2") or got("reliability")),
        direct=got("direct_port_count") >= 1,
        single=True,
        driver=text(row, "driver_version"),
        machine=text(row, "machine_id"),
    )
