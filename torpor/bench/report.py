"""A measurement as a page, Markdown or HTML, with a bar chart for each group of figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from torpor.bench.charts import Bar, bars
from torpor.bench.rows import CHOSEN, HEAD, TITLES, Row, cells
from torpor.bench.run import Result
from torpor.errors import UsageError

KINDS = (".md", ".html")
_STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1f2328 }
table { border-collapse: collapse }
td, th { padding: .15rem .7rem; border-bottom: 1px solid #d0d7de; text-align: right }
td:first-child, td:nth-child(3), td:nth-child(n+6) { text-align: left }
svg { max-width: 100%; height: auto }
"""
TITLE = "What this machine can do"


def kind_of(path: str) -> str:
    """The ending of a report's name. Raises `UsageError` for one that is no page's."""
    found = Path(path).suffix.lower()
    if found not in KINDS:
        raise UsageError(f"--report {path!r} is neither Markdown nor HTML.", remedy="Give a name that ends in .md or .html.")
    return found


class Chart(NamedTuple):
    """`name`: its group and unit, such as `codecs-gb-s`."""

    name: str
    title: str
    unit: str
    bars: list[Bar]


def charts(rows: Sequence[Row]) -> Iterator[Chart]:
    """A chart for each group and unit that has a figure."""
    for group, title in TITLES.items():
        # Of a codec that refuses, the time it takes to see that says nothing beside those of others.
        mine = [row for row in rows if row.group == group and row.value is not None and (group != "codecs" or row.limit is not None)]
        for unit in dict.fromkeys(row.unit for row in mine):
            drawn = [Bar(row.name, row.value, row.limit, strong=CHOSEN in row.note) for row in mine if row.unit == unit]
            yield Chart(f"{group}-{unit.replace('/', '-').lower()}", title, unit, drawn)


def _svg(result: Result) -> dict[str, str]:
    """Documents by the names of charts."""
    return {chart.name: bars(chart.title, chart.unit, chart.bars) for chart in charts(result.rows)}


def write(result: Result, path: str) -> list[str]:
    """Write the page, and for Markdown its charts beside it; the names of all files are returned. Raises `OSError`."""
    target = Path(path)
    if kind_of(path) == ".html":
        target.write_text(html(result), encoding="utf-8")
        return [path]
    written = [path]
    links: dict[str, str] = {}
    for name, svg in _svg(result).items():
        chart = target.with_name(f"{target.stem}-{name}.svg")
        chart.write_text(svg, encoding="utf-8")
        links[name] = chart.name
        written.append(str(chart))
    target.write_text(markdown(result, links), encoding="utf-8")
    return written


def markdown(result: Result, links: dict[str, str]) -> str:
    """The page as Markdown. `links`: names of chart files by chart."""
    out = [f"# {TITLE}", "", *_about(result), "", result.advice.text, ""]
    for group, title in TITLES.items():
        rows = [row for row in result.rows if row.group == group]
        if not rows:
            continue
        out += [f"## {title}", ""]
        out += [f"![{title}]({link})\n" for name, link in links.items() if name.startswith(f"{group}-")]
        out += ["| " + " | ".join(HEAD) + " |", "|---|---:|---|---:|---:|---|---|"]
        out += ["| " + " | ".join(text.replace("|", "\\|") for text in cells(row)) + " |" for row in rows]
        out.append("")
    return "\n".join(out)


def html(result: Result) -> str:
    """The page as one HTML file."""
    drawn = _svg(result)
    out = [
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{TITLE}</title>',
        f"<style>\n{_STYLE}</style>",
        f"<h1>{TITLE}</h1>",
        *(f"<p>{escape(line)}</p>" for line in (*_about(result), result.advice.text) if line),
    ]
    for group, title in TITLES.items():
        rows = [row for row in result.rows if row.group == group]
        if not rows:
            continue
        out.append(f"<h2>{escape(title)}</h2>")
        out += [svg for name, svg in drawn.items() if name.startswith(f"{group}-")]
        out.append("<table>\n<tr>" + "".join(f"<th>{escape(text)}</th>" for text in HEAD) + "</tr>")
        out += ["<tr>" + "".join(f"<td>{escape(text)}</td>" for text in cells(row)) + "</tr>" for row in rows]
        out.append("</table>")
    return "\n".join([*out, "</html>", ""])


def _about(result: Result) -> list[str]:
    machine = result.machine
    where = f"{result.folder} ({result.file_system or 'unknown file system'})"
    return [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB; {result.threads} threads; {where}; {machine['date']}.",
        "",
        ", ".join(f"{name} {value}" for name, value in result.versions.items()) + f", Python {machine['python']}, {machine['system']}.",
    ]
