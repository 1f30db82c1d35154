"""Options that say which machine to rent: the same words for wake, replicate and offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import given
from torpor.cli.parameters import choice, flag, grouped, number, option
from torpor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torpor.plan.offers import Wish

MACHINE = grouped(
    "Which machine to rent",
    option("--gpu", "NAME", 'Rent a machine with this GPU, such as "RTX 4090".'),
    number("--gpus", "How many GPUs it has; 1 unless told."),
    flag("--cpu", "Rent a machine without a GPU."),
    option("--region", "REGION", "Where: a country such as US, or eu, na, asia."),
    option("--max-price", "DOLLARS", "What it may cost an hour at most, with its disk."),
    choice("--provider", ("vast", "gce"), "Whom to rent from; without it, whoever there is an account for."),
    flag("--interruptible", "One that can be taken away at any time, which is cheaper."),
    option("--disk", "SIZE", "Size of its disk; without it, what the snapshot needs and a fifth more."),
    option("--min-down", "MBIT", "Megabits a second that it must be able to download."),
)
LEASE = grouped(
    "Until it is handed over",
    option("--spend", "DOLLARS", "What a machine may cost before it is handed over; then it is destroyed again."),
    option("--boot-deadline", "DURATION", "How long it may take to boot before the next offer is taken: 8m unless told, 1m at least."),
    option("--lease", "DURATION", "How long all may take before it is destroyed again: 4h unless told, 10m at least."),
)
AFTER = grouped(
    "Once it is awake",
    option("--after", "COMMAND", "Run this on the machine once everything is there, such as what starts a server."),
    option("--after-timeout", "DURATION", "How long that may take: 10m unless told."),
)
KEYS = tuple(one.key for one in (*MACHINE, *LEASE, *AFTER))

_FOUND = {"disk": "disk_gb", "min-down": "min_down_mbps", "lease": "lease_seconds", "boot-deadline": "boot_seconds"}


def amount(text: str | None, flag: str) -> float | None:
    """`0.5`, `$0.50`: dollars, or a plain number. Raises `UsageError`."""
    if text is None:
        return None
    try:
        found = float(text.strip().removeprefix("$"))
    except ValueError:
        found = -1.0
    if not 0 < found < 1e6:
        raise UsageError(f"{flag} {text!r} is no amount.", remedy="Write a number, such as 0.50.")
    return found


def parameters(values: Mapping[str, object]) -> dict[str, object]:
    """The flow's parameters for these options: only what was given."""

    def text(key: str) -> str | None:
        found = values.get(key)
        return found if isinstance(found, str) else None

    def seconds(key: str, flag: str, least: int = 1) -> int | None:
        found = text(key)
        return None if found is None else given.whole_seconds(found, flag, least)

    if region := text("region"):
        from torpor.plan.regions import countries

        countries(region)  # raises `UsageError`
    gpus = values.get("gpus")
    if values.get("cpu"):
        if text("gpu") or gpus:
            raise UsageError("--cpu asks for a machine without a GPU, --gpu for one with.")
        gpus = 0
    from torpor.plan.offers import LEAST_BOOT, LEAST_LEASE

    boot, lease = seconds("boot_deadline", "--boot-deadline", LEAST_BOOT), seconds("lease", "--lease", LEAST_LEASE)
    if boot and lease and lease <= boot:
        raise UsageError("--lease ends before --boot-deadline does.", safe="Nothing was rented.", remedy="Give it more time than the boot.")
    disk, down = text("disk"), amount(text("min_down"), "--min-down")
    return {
        "gpu": text("gpu"), "gpus": gpus, "region": text("region"), "max_price": amount(text("max_price"), "--max-price"),
        "provider": text("provider"), "interruptible": values.get("interruptible") or None,
        "disk_gb": -(-given.size(disk, "--disk") // 1_000_000_000) if disk else None,
        "min_down_mbps": None if down is None else int(down), "spend": amount(text("spend"), "--spend"),
        "boot_seconds": boot, "lease_seconds": lease,
        "after": text("after"), "after_seconds": seconds("after_timeout", "--after-timeout"),
    }  # fmt: skip


def wish(found: Mapping[str, object], *, disk: int, fetch: int) -> Wish:
    """The wish that the flow will make of these parameters."""
    from torpor.plan.offers import GB, Wish

    def number(key: str) -> float:
        value = found.get(key)
        return float(value) if isinstance(value, (int, float)) else 0.0

    gpus = found.get("gpus")
    return Wish(
        gpu=str(found.get("gpu") or ""), gpus=gpus if isinstance(gpus, int) else 1, region=str(found.get("region") or ""),
        max_price=number("max_price"), interruptible=bool(found.get("interruptible")), disk=int(number("disk_gb")) * GB or disk,
        down=number("min_down_mbps") * 1e6, fetch=fetch, spend=number("spend"),
    )  # fmt: skip


def check(found: Mapping[str, object]) -> None:
    """Raise `UsageError` if something is said of a machine to rent, and not that one is to be rented."""
    told = [
        f"--{key}"
        for key in ("gpus", "interruptible", "disk", "min-down", "spend", "lease", "boot-deadline")
        if found.get(_FOUND.get(key, key))
    ]
    if told and not rents(found):
        raise UsageError(
            f"{told[0]} is about a machine to rent, and nothing says that one is to be rented.", safe="Nothing was rented.",
            remedy="Add --gpu NAME, or --cpu, or leave it out.",
        )  # fmt: skip


def rents(found: Mapping[str, object]) -> bool:
    """Whether these parameters ask for a machine to be rented."""
    return any(found.get(key) for key in ("gpu", "region", "max_price", "provider")) or found.get("gpus") == 0
