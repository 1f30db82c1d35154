"""torpor.bench: figures, charts and the line of advice, without measuring."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from torpor.bench.advice import Speeds, advise
from torpor.bench.charts import Bar, bars
from torpor.bench.rows import Row, shown, table
from torpor.bench.timing import speed
from torpor.bench.whole import Job, Whole

WHOLE = Whole(Job(1.0, 1.0), Job(0.1, 0.1), Job(0.5, 0.5), 10, 1_000_000_000, 500_000_000)  # two threads: 2 GB/s, 4 GB/s


@pytest.mark.parametrize(
    ("speeds", "snapshot", "restore"),
    [
        (Speeds(write=9, read=9), "cores", "cores"),
        (Speeds(write=3, read=9), "cores", "disk"),
        (Speeds(write=3, read=1), "disk", "disk"),
        (Speeds(write=9, read=9, up=0.5, down=9), "link", "cores"),
        (Speeds(write=9, read=9, up=0.5, down=0.5), "link", "link"),
    ],
)
def test_the_bottleneck(speeds: Speeds, snapshot: str, restore: str) -> None:
    found = advise(WHOLE, speeds, 2)
    assert found.bottleneck == {"snapshot": snapshot, "restore": restore}
    assert f"the {snapshot} (" in found.text
    assert f"the {restore} (" in found.text
    assert ("No store was named" in found.text) == (speeds.up is None)


def test_a_link_that_would_hold_it_back() -> None:
    """2 GB/s of raw bytes are 1 GB/s of sealed ones."""
    assert "below 1,000 MB/s up or 2,000 MB/s down" in advise(WHOLE, Speeds(write=9, read=9), 2).text


def test_reached() -> None:
    assert Row(group="whole", name="a", value=2.0, unit="s", limit=1.0).reached == 0.5
    assert Row(group="files", name="a", value=2.0, unit="GB/s", limit=4.0).reached == 0.5
    assert Row(group="gpu", name="a").reached is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.001234, "0.00123"), (0.5, "0.50"), (1.234, "1.23"), (12.34, "12.3"), (99.96, "100"), (12345.0, "12,300")],
)
def test_shown(value: float | None, text: str) -> None:
    assert shown(value) == text


def test_a_table() -> None:
    lines = table([Row(group="gpu", name="b", note="no GPU"), Row(group="memory", name="a", value=1.0, unit="GB/s", limit=2.0)])
    assert [line.split("  ")[0] for line in lines[1:]] == ["Memory, hash, seal", "a", "GPU", "b"]
    assert re.search(r"^a +1\.00 +GB/s +2\.00 +50 %$", lines[2])


def test_a_chart() -> None:
    rows = [Bar("<one>", 2.0, 4.0, strong=True), Bar("two", 1.0), Bar("three", None, note="no GPU")]
    root = ET.fromstring(bars("Title & more", "GB/s", rows))
    space = {"svg": "http://www.w3.org/2000/svg"}
    widths = [float(rect.attrib["width"]) for rect in root.findall("svg:rect", space)[1:]]
    assert len(widths) == 2
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.01)
    texts = [text.text for text in root.findall("svg:text", space)]
    assert {"<one>", "two", "three", "no GPU", "Title & more", "GB/s; the line is the limit"} <= set(texts)
    assert ET.fromstring(bars("Nothing", "s", [])) is not None


def test_speed_counts_every_thread() -> None:
    calls: list[int] = []
    assert speed(lambda: lambda: calls.append(1), 1000, 3, 0.001, rounds=1) > 0
    assert (len(calls) - 2) % 3 == 0
    with pytest.raises(ZeroDivisionError):
        speed(lambda: lambda: 1 // 0, 1, 2, 0.001)
