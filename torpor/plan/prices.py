"""What providers of object storage ask for, in US dollars, as far as it is known: data with dates and sources.

Prices change; the dates say how old these are. A figure in `uncertain` is from a second hand or its sources disagree: check it
before you rely on it. GB is 10⁹ bytes; a provider that counts GiB costs up to 7 % less than said here. Regions: the cheapest large
ones in the United States; no taxes, no free trial amounts, no discounts for a commitment.
"""

from __future__ import annotations

from typing import NamedTuple


class Price(NamedTuple):
    """One provider. `provider` is the word in `Capabilities.provider`.

    `month`: $ for a GB stored for 30 days, of at least `least_gb`. `egress`: $ for a GB read over the internet beyond what a month
    has free: `free_gb`, and `free_times` what is stored. `put`, `get`: $ for a million requests that write or list, and that read.
    `minimum_days`: what is deleted sooner costs as if it had stayed so long. `uncertain`: fields of which the figure is not sure.
    """

    provider: str
    title: str
    month: float
    egress: float
    put: float
    get: float
    as_of: str
    source: str
    free_gb: float = 0.0
    free_times: float = 0.0
    least_gb: float = 0.0
    minimum_days: int = 0
    uncertain: tuple[str, ...] = ()
    note: str = ""


PRICES = {
    price.provider: price
    for price in (
        Price(
            "aws", "Amazon S3 (Standard)", month=0.023, egress=0.09, free_gb=100, put=5.0, get=0.4, as_of="2026-11",
            source="price lists as cited by third parties; the 100 GB count for all of an AWS account", uncertain=("month",),
        ),
        Price(
            "b2", "Backblaze B2", month=0.006, egress=0.01, free_times=3, put=0.0, get=0.4, as_of="2026-05",
            source="the provider's price pages, which disagreed; third parties", uncertain=("month", "get"),
            note="downloads through Cloudflare cost nothing",
        ),
        Price(
            "gcs", "Google Cloud Storage (Standard)", month=0.02, egress=0.12, put=5.0, get=0.4, as_of="2026-11",
            source="egress: the provider's network price list (premium tier, first TiB); the rest: usual figures, not checked",
            uncertain=("month", "put", "get"),
            note="what is deleted costs 7 days more unless the bucket's soft delete policy is off",
        ),
        Price(
            "r2", "Cloudflare R2 (Standard)", month=0.015, egress=0.0, put=4.5, get=0.36, as_of="2026-11",
            source="the provider's price page",
        ),
        Price(
            "wasabi", "Wasabi (pay as you go)", month=0.00799, egress=0.0, put=0.0, get=0.0, least_gb=1000, minimum_days=90,
            as_of="2026-07-01", source="third parties; $6.99 a TB before that day", uncertain=("month",),
            note="its rules allow to read no more in a month than is stored",
        ),
    )
}  # fmt: skip
