"""One line: what holds a snapshot and a restore back on this machine, and what would help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from torpor.bench.rows import shown
from torpor.bench.whole import Whole

Part = Literal["link", "disk", "cores"]
_CURE: Mapping[Part, str] = {
    "link": "a machine nearer to the store, or with a faster link, helps; more cores do not",
    "disk": "a faster disk helps; more cores do not",
    "cores": "more cores help; a faster disk or link does not",
}


class Speeds(msgspec.Struct, frozen=True, kw_only=True):
    """GB/s that disk and link were measured at; the link's are None if there is no store to measure."""

    write: float
    read: float
    up: float | None = None
    down: float | None = None


class Advice(msgspec.Struct, frozen=True):
    """The line, and by job ("snapshot", "restore") GB/s of raw bytes that each part allows."""

    text: str
    bottleneck: dict[str, Part]
    allowed: dict[str, dict[str, float]]


def advise(whole: Whole, speeds: Speeds, threads: int) -> Advice:
    """Compare what link, disk and cores allow for the measured workspace. `threads`: how many cores torpor uses."""
    raw, ratio = whole.raw_bytes / 1e9, whole.ratio
    snapshot: dict[Part, float] = {"disk": speeds.read, "cores": raw * threads / whole.snapshot.cpu}
    restore: dict[Part, float] = {"disk": speeds.write, "cores": raw * threads / whole.restore.cpu}
    if speeds.up is not None and speeds.down is not None:
        # The link carries sealed bytes, of which each stands for `ratio` raw ones.
        snapshot["link"], restore["link"] = speeds.up * ratio, speeds.down * ratio
    jobs = {"snapshot": snapshot, "restore": restore}
    slowest = {name: min(parts, key=parts.__getitem__) for name, parts in jobs.items()}
    texts: list[str] = []
    if slowest["snapshot"] == slowest["restore"]:
        texts.append(f"The bottleneck here: {_held(slowest['restore'], jobs)}; {_CURE[slowest['restore']]}.")
    else:
        texts += [f"The bottleneck of a {name}: {_held(part, {name: jobs[name]})}; {_CURE[part]}." for name, part in slowest.items()]
    if "link" not in restore:
        up, down = (1000 * min(parts.values()) / ratio for parts in (snapshot, restore))
        texts.append(f"No store was named: a link below {shown(up)} MB/s up or {shown(down)} MB/s down would hold it back instead.")
    allowed = {name: {str(part): value for part, value in parts.items()} for name, parts in jobs.items()}
    return Advice(" ".join(texts), slowest, allowed)


def _held(part: Part, jobs: Mapping[str, Mapping[Part, float]]) -> str:
    figures = ", ".join(f"{shown(parts[part])} GB/s of a {name}" for name, parts in jobs.items())
    return f"the {part} ({figures})"
