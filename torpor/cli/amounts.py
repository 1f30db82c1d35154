"""Sizes, times and rates as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor import units

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torpor.jobs import Traffic

size = units.size


def money(amount: float) -> str:
    """US dollars: `$12.34`, below one with four digits after the point."""
    if amount >= 1:
        return f"${amount:,.2f}"
    if 0 < amount < 0.0001:
        return "<$0.0001"
    return f"${amount:.4f}" if amount else "$0"


def rate(count: float, seconds: float) -> str:
    return f"{count / max(seconds, 1e-9) / 1e9:.2f} GB/s"


def seconds(time: float) -> str:
    """`0.85 s`, `12.4 s`, `3 min 20 s`, `2 h 5 min`."""
    if time < 60:
        return f"{time:.2f} s" if time < 9.995 else f"{time:.1f} s"
    if time < 3600:
        return f"{int(time) // 60} min {int(time) % 60} s"
    return f"{int(time) // 3600} h {int(time) % 3600 // 60} min"


def age(time: float) -> str:
    """How long ago, in one unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if time >= 2 * length:
            return f"{int(time) // length} {unit}"
    return f"{max(0, int(time))} s"


def count(number: int, noun: str) -> str:
    """`1 file`, `2 files`, `1,234 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def stages(figures: Mapping[str, Mapping[str, float]]) -> str:
    """`scan 0.31 s, upload 12.4 s`: in the order in which they began; they overlap."""
    return ", ".join(f"{name} {seconds(figure['seconds'])}" for name, figure in figures.items())


def traffic(used: Traffic) -> dict[str, int]:
    """For `--json`: what went over the network."""
    return {"requests": used.requests, "retries": used.retries, "sent": used.sent, "received": used.received}


def network(used: Traffic, tuned: Mapping[str, str]) -> list[str]:
    """Lines for people; none where no network was used, or tuned."""
    lines = []
    if used.requests:
        again = f", {used.retries:,} of them again" if used.retries else ""
        lines.append(
            f"network: {count(used.requests, 'request')}{again}; {size(used.sent)} sent, {size(used.received)} received; "
            f"up to {used.pace} at once in the end"
        )
    by_outcome: dict[str, list[str]] = {}
    for key, outcome in tuned.items():
        by_outcome.setdefault(outcome, []).append(key)
    return lines + [f"kernel's network settings {outcome}: {', '.join(keys)}" for outcome, keys in by_outcome.items()]
