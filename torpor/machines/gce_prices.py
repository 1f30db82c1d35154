"""What Google's machines cost, in US dollars an hour, as far as it is known: data with dates and sources.

Prices of spot machines change, up to once a month; the date says how old these are. Whoever knows better says so in `GCE_PRICES`:
`g2-standard-4/spot=0.28, n2-standard-4=0.19`, dollars an hour for a machine of that type without its disk and address. What is not
known is None, never 0: nobody shall take it for free.
"""

from __future__ import annotations

from typing import NamedTuple

from torpor.access import Access
from torpor.errors import UsageError

AS_OF = "2026-11-22"
SOURCE = "unit prices solved from the SkyPilot project's GCP catalogue v8, whose on-demand rows give Google's published figures"
UNCERTAIN = ("disk", "address")  # usual figures of the cheapest regions, not checked

_HOURS = 730.0  # of a month


class Unit(NamedTuple):
    """Of the E2 family: $ an hour for a vCPU, and for a GiB of memory."""

    core: float
    gib: float


_US = Unit(0.00957, 0.001283)
SPOT = {
    "europe-west4": Unit(0.01000, 0.00134),
    "us-central1": _US,
    "us-east1": _US,
    "us-east5": Unit(0.00492, 0.000663),
    "us-west1": _US,
    "us-west4": Unit(0.00256, 0.000343),
}
ON_DEMAND = {"us-central1": Unit(0.02181, 0.002924)}
SIZES = {  # vCPUs that are billed, GiB
    "e2-micro": (0.25, 1.0),
    "e2-small": (0.5, 2.0),
    "e2-medium": (1.0, 4.0),
    "e2-standard-2": (2.0, 8.0),
    "e2-standard-4": (4.0, 16.0),
    "e2-standard-8": (8.0, 32.0),
}
DISK = {"pd-standard": 0.04, "pd-balanced": 0.10}  # $ a GB and month
ADDRESS = {True: 0.0025, False: 0.005}  # of an external IPv4 address, by whether the machine is a spot one
EGRESS = 0.12  # $ a GiB to the internet, premium tier, the first TiB of a month, North America


def machine(kind: str, region: str, spot: bool, accounts: Access) -> float | None:
    """$ an hour of a machine of this type while it runs, without disk and address. None: not known. Raises `UsageError`."""
    own = _own(accounts)
    if (kind, spot) in own:
        return own[kind, spot]
    unit = (SPOT if spot else ON_DEMAND).get(region)
    if unit is None or kind not in SIZES:
        return None
    cores, gib = SIZES[kind]
    return cores * unit.core + gib * unit.gib


def is_own(kind: str, spot: bool, accounts: Access) -> bool:
    """Whether the price of this type is the user's word."""
    return (kind, spot) in _own(accounts)


def disk(kind: str, size: int) -> float | None:
    """$ an hour of a disk, running or not. `size`: GB as Google counts them. None: not known."""
    return DISK[kind] * size / _HOURS if kind in DISK else None


def _own(accounts: Access) -> dict[tuple[str, bool], float]:
    found = {}
    for part in accounts.get("GCE_PRICES").split(","):
        name, _, figure = part.partition("=")
        kind, _, spot = name.strip().partition("/")
        if not part.strip():
            continue
        try:
            price = float(figure)
        except ValueError:
            price = -1.0
        if not kind or spot not in ("", "spot") or not 0 < price < 10_000:
            raise UsageError(f"GCE_PRICES has {part.strip()!r}.", remedy="Write TYPE=DOLLARS or TYPE/spot=DOLLARS, with commas between.")
        found[kind, bool(spot)] = price
    return found
