"""Draws the committed results (benchmarks/results/*.json) as bar charts for docs/performance.md.

    ./dev bench charts [--results PATH] [--page PATH]

The charts go to a folder `charts` beside the page. Where the page has the two lines `<!-- charts -->` and `<!-- /charts -->`, what is
between them becomes the list of all charts; without a page, that list is printed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import MIB, RESULTS
from benchmarks.workspaces import ROWS
from torpor.bench.charts import Bar, bars
from torpor.bench.report import charts
from torpor.bench.rows import Row

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- charts -->", "<!-- /charts -->"


class Chart(NamedTuple):
    """`name` of the file without its ending; `heading` above it on the page; `title` and `unit` within it."""

    name: str
    heading: str
    title: str
    unit: str
    rows: list[Bar]


def peers(name: str, data: dict[str, Any]) -> Iterator[Chart]:
    """Of `bench peers`: seconds to save and to restore, with `cp -a` as the limit, and what is stored."""
    for workspace, result in data["workspaces"].items():
        found = result["peers"]
        copy = found.get("cp -a", {})
        text = ROWS[workspace].text if workspace in ROWS else workspace
        text += f", {result['raw_bytes'] / 1e9:.2f} GB, {result['files']:,} files"
        for key, what in (("save_s", "Save"), ("unchanged_s", "Save, unchanged"), ("restore_s", "Restore")):
            limit = None if key == "unchanged_s" else copy.get(key)
            rows = [Bar(peer, times[key], limit, strong=peer == "torpor") for peer, times in found.items() if key in times]
            yield Chart(f"{name}-{workspace}-{key[:-2]}", text, what, "seconds, less is better", rows)
        size = "new_bytes" if workspace == "day" else "stored_bytes"
        rows = [Bar(peer, times[size] / MIB, strong=peer == "torpor") for peer, times in found.items()]
        yield Chart(f"{name}-{workspace}-stored", text, "New in the store, a day" if workspace == "day" else "Stored", "MiB", rows)


def scale(name: str, data: dict[str, Any]) -> Iterator[Chart]:
    """Of `bench scale`: seconds and peak memory over size."""
    for series, result in data.items():
        if not isinstance(result, dict) or "points" not in result:
            continue
        points = result["points"]
        unit, short = series.split()[-1], series.split()[0]
        for key, title in (("snapshot_s", "Snapshot"), ("restore_s", "Restore"), ("index_open_s", "Opening the index")):
            rows = [Bar(f"{point['size']:,} {unit}", point[key]) for point in points]
            if len(points) > 1:
                yield Chart(f"{name}-{short}-{key[:-2].replace('_', '-')}", f"Growth: {series}", title, "seconds", rows)
        limit = data["limit_bytes"] / MIB
        peaks = ((point["size"], max(point["snapshot_peak"], point["unchanged_peak"], point["restore_peak"])) for point in points)
        rows = [Bar(f"{size:,} {unit}", peak / MIB, limit) for size, peak in peaks]
        yield Chart(f"{name}-{short}-memory", f"Growth: {series}", "Peak memory of all processes", "MiB", rows)


def machine(name: str, data: dict[str, Any]) -> Iterator[Chart]:
    """Of `torpor bench --save`: its groups."""
    rows = [Row(**{field: row[field] for field in Row.__struct_fields__}) for row in data["rows"]]
    for chart in charts(rows):
        yield Chart(f"{name}-{chart.name}", "The machine alone", chart.title, chart.unit, chart.bars)


KINDS = {"workspaces": peers, "limit_bytes": scale, "advice": machine}  # a key that only results of that kind have


def draw(results: Path, folder: Path) -> list[str]:
    """Draw every result into `folder`; lines of Markdown that show the charts are returned."""
    lines: list[str] = []
    for path in sorted(results.glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        kind = next((kind for key, kind in KINDS.items() if key in data), None)
        if kind is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        about = data["machine"]
        lines += ["", f"### {path.stem}", "", f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB, {about['date']}."]
        heading = ""
        for chart in kind(path.stem, data):
            if not chart.rows:
                continue
            if chart.heading != heading:
                heading = chart.heading
                lines += ["", f"**{heading[:1].upper()}{heading[1:]}**", ""]
            (folder / f"{chart.name}.svg").write_text(bars(chart.title, chart.unit, chart.rows), encoding="utf-8")
            lines.append(f"![{chart.title}: {heading}]({folder.name}/{chart.name}.svg)")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    lines = draw(given.results, given.page.parent / "charts")
    text = given.page.read_text(encoding="utf-8") if given.page.exists() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        print("\n".join(lines))
        return
    given.page.write_text("\n".join([before + begin, *lines, end + after]), encoding="utf-8")


if __name__ == "__main__":
    main()
