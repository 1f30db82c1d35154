"""Bar charts as SVG: one function, no library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import msgspec

from torpor.bench.rows import shown

WIDTH, LABEL, FIGURE = 860, 260, 130  # pixels: the whole, the labels at the left, the figures at the right
STEP, BAR, TOP = 24, 15, 46
_INK, _QUIET, _GRID, _PLAIN, _STRONG, _LIMIT = "#1f2328", "#656d76", "#d0d7de", "#8fb4d9", "#1f6feb", "#cf222e"


class Bar(msgspec.Struct, frozen=True):
    """One bar. `limit` is drawn as a line across it; `strong` bars stand out; a value of None has no bar, only its note."""

    label: str
    value: float | None
    limit: float | None = None
    note: str = ""
    strong: bool = False


def bars(title: str, unit: str, rows: Sequence[Bar]) -> str:
    """An SVG document with one bar a row, from 0 to the greatest value or limit."""
    most = max((value for row in rows for value in (row.value, row.limit) if value), default=1.0)
    room = WIDTH - LABEL - FIGURE
    height = TOP + STEP * len(rows) + 12
    limits = any(row.limit for row in rows)
    head = f"{unit}; the line is the limit" if limits else unit
    box = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" font-family="system-ui, sans-serif">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(12, 22, title, _INK, size=15, weight="600"),
        _text(WIDTH - 12, 22, head, _QUIET, anchor="end"),
        f'<line x1="{LABEL}" y1="{TOP - 10}" x2="{LABEL}" y2="{height - 8}" stroke="{_GRID}"/>',
    ]
    for number, row in enumerate(rows):
        top = TOP + STEP * number
        base = top + BAR - 3
        out.append(_text(LABEL - 8, base, row.label, _INK, anchor="end", weight="600" if row.strong else "400"))
        if row.value is None:
            out.append(_text(LABEL + 8, base, row.note or "-", _QUIET))
            continue
        end = max(row.value, row.limit or 0) / most * room
        out.append(
            f'<rect x="{LABEL}" y="{top}" width="{max(1.0, row.value / most * room):.1f}" height="{BAR}" '
            f'fill="{_STRONG if row.strong else _PLAIN}"/>'
        )
        if row.limit:
            at = LABEL + row.limit / most * room
            out.append(f'<line x1="{at:.1f}" y1="{top - 3}" x2="{at:.1f}" y2="{top + BAR + 3}" stroke="{_LIMIT}" stroke-width="2"/>')
        figure = shown(row.value) + (f" ({row.note})" if row.note else "")
        out.append(_text(LABEL + end + 8, base, figure, _QUIET))
    return "\n".join([*out, "</svg>", ""])


def _text(x: float, y: float, text: str, fill: str, *, anchor: str = "start", size: int = 13, weight: str = "400") -> str:
    place = f'x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{fill}" font-size="{size}" font-weight="{weight}">{escape(text)}</text>'
