"""What it costs to keep snapshots asleep, to wake one, to take one: arithmetic over plan/prices.py. All amounts are US dollars."""

from __future__ import annotations

from typing import NamedTuple

from torpor.format.version import PACK_TARGET
from torpor.plan.limits import SPAN
from torpor.plan.prices import PRICES, Price

MONTH = 30.0  # days

_GB = 1e9
_OTHERS = 4  # requests of one snapshot or wake beside those for packs: claim, index, manifest, receipt


class Bill(NamedTuple):
    """One month at one provider: `storage` for what lies there, `reading` for the wakes, `total`."""

    price: Price
    storage: float
    reading: float

    @property
    def total(self) -> float:
        return self.storage + self.reading


def keeping(price: Price, stored: int, days: float = MONTH) -> float:
    """To keep `stored` bytes for so many days, and then delete them: at least the provider's least amount and minimum time."""
    return max(stored / _GB, price.least_gb) * price.month * max(days, price.minimum_days) / MONTH


def asleep(price: Price, stored: int) -> float:
    """A month of what lies in the store and stays: all of a repository, since a provider's least amount is asked for once."""
    return max(stored / _GB, price.least_gb) * price.month


def share(price: Price, part: int, stored: int) -> float:
    """What of `asleep(price, stored)` falls to `part` of the bytes."""
    return asleep(price, stored) * part / stored if stored else 0.0


def waking(price: Price, read: int, stored: int, wakes: float = 1.0) -> float:
    """To read `read` bytes, `wakes` times in one month, out of a store that holds `stored`, with no other reading in that month."""
    paid = max(0.0, wakes * read / _GB - price.free_gb - price.free_times * stored / _GB)
    return paid * price.egress + wakes * (-(-read // SPAN) + _OTHERS) * price.get / 1e6


def taking(price: Price, new: int) -> float:
    """To write the `new` bytes of a snapshot, with what they cost even if they are deleted at once."""
    puts = (-(-new // PACK_TARGET) + _OTHERS) * price.put / 1e6
    return puts + new / _GB * price.month * price.minimum_days / MONTH


def compare(stored: int, read: int, wakes: float) -> list[Bill]:
    """The same at every provider, cheapest first. `read`: bytes of one wake of each workspace; `wakes`: how often a month."""
    bills = [Bill(price, asleep(price, stored), waking(price, read, stored, wakes)) for price in PRICES.values()]
    return sorted(bills, key=lambda bill: (bill.total, bill.price.provider))
