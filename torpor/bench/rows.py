"""What a measurement is: one figure, the limit of this machine for it, and where that limit comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

Group = Literal["memory", "codecs", "files", "whole", "store", "gpu"]
TITLES: dict[str, str] = {
    "memory": "Memory, hash, seal",
    "codecs": "Codecs",
    "files": "Files and disk",
    "whole": "Whole snapshots",
    "store": "Store",
    "gpu": "GPU",
}

CHOSEN = "torpor chooses it"  # in the note of a codec that torpor takes for such data


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table.

    `value` and `limit` in `unit` ("GB/s" and "files/s": more is better; "s": less is); None where nothing was measured. `limit_name`
    says what the limit is. `note` is for people.
    """

    group: Group
    name: str
    value: float | None = None
    unit: str = ""
    limit: float | None = None
    limit_name: str = ""
    note: str = ""

    @property
    def reached(self) -> float | None:
        """Which part of the limit is reached: 1 is all of it."""
        if not self.value or not self.limit:
            return None
        return self.limit / self.value if self.unit == "s" else self.value / self.limit

    def as_dict(self) -> dict[str, object]:
        """For JSON, with numbers of four digits."""
        reached = self.reached
        return {
            "group": self.group, "name": self.name, "value": digits(self.value), "unit": self.unit, "limit": digits(self.limit),
            "limit_name": self.limit_name, "reached": digits(reached), "note": self.note,
        }  # fmt: skip


def digits(value: float | None) -> float | None:
    """A number with four digits."""
    return None if value is None else float(f"{value:.4g}")


def shown(value: float | None) -> str:
    """A number with three digits, thousands apart: `1.53`, `12,300`."""
    if value is None:
        return "-"
    rounded = float(f"{value:.3g}")
    if rounded >= 100:
        return f"{rounded:,.0f}"
    return f"{rounded:.1f}" if rounded >= 10 else f"{rounded:.2f}" if rounded >= 0.1 else f"{rounded:.3g}"


HEAD = ("", "here", "", "limit", "reached", "the limit is", "")


def cells(row: Row) -> tuple[str, ...]:
    """A row as texts, for a table with the columns `HEAD`."""
    reached = "-" if row.reached is None else f"{100 * row.reached:.0f} %"
    return row.name, shown(row.value), row.unit, shown(row.limit), reached, row.limit_name, row.note


def table(rows: Sequence[Row]) -> list[str]:
    """All rows as lines of text, group by group."""
    body = [cells(row) for row in rows]
    widths = [max(len(line[column]) for line in (HEAD, *body)) for column in range(len(HEAD))]
    lines: list[str] = []

    def line(texts: Sequence[str]) -> None:
        left = {0, 2, 5, 6}
        parts = [text.ljust(width) if i in left else text.rjust(width) for i, (text, width) in enumerate(zip(texts, widths, strict=True))]
        lines.append("  ".join(parts).rstrip())

    line(HEAD)
    for group, title in TITLES.items():
        mine = [texts for row, texts in zip(rows, body, strict=True) if row.group == group]
        if mine:
            lines.append(title)
            for texts in mine:
                line(texts)
    return lines
