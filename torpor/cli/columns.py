"""Plain tables: columns as wide as their widest cell, numbers to the right."""

from __future__ import annotations

from collections.abc import Sequence


def lines(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> list[str]:
    """The lines of a table. Columns whose head is in `right` are set to the right."""
    from torpor.jobs import show_text

    rows = [[show_text(cell) for cell in row] for row in rows]  # a name may hold anything, such as a terminal's commands
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    out: list[str] = []
    for row in (head, *rows):
        cells = [cell.rjust(width) if title in right else cell.ljust(width) for cell, width, title in zip(row, widths, head, strict=True)]
        out.append("  ".join(cells).rstrip())
    return out
