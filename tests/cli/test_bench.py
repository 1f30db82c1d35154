"""torpor bench: what it prints, what it writes, and that it leaves nothing behind."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.cli.door import Cli, finish, until
from tests.docs.test_cli_docs import undocumented

SMALL = ("--size", "8M")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where to measure."""
    found = tmp_path / "here"
    found.mkdir()
    return found


def test_a_measurement(cli: Cli, folder: Path, tmp_path: Path) -> None:
    saved, page = tmp_path / "machine.json", tmp_path / "machine.md"
    done = cli.ok("bench", *SMALL, "--folder", folder, "--save", saved, "--report", page, "--json")
    answer = done.json
    assert undocumented("bench", answer) == set()
    rows = {row["name"]: row for row in answer["rows"]}
    measured = {name for name, row in rows.items() if row["value"]}
    assert {"memory copy", "keyed BLAKE3", "seal (AES-256-GCM)", "open (AES-256-GCM)", "disk write", "disk read", "walk"} <= measured
    assert {"bf16, planes: encode", "fp32, planes: decode", "fp16, zstd: encode", "text, lz4: decode", "random, zstd: encode"} <= measured
    assert {"plain copy", "snapshot", "unchanged snapshot", "restore", "put", "get"} <= measured
    assert rows["snapshot"]["limit_name"] == "a plain copy"
    assert rows["snapshot"]["reached"] == pytest.approx(rows["snapshot"]["limit"] / rows["snapshot"]["value"], rel=1e-3)
    assert rows["bf16, planes: encode"]["note"] == "ratio 1.51; torpor chooses it"
    assert [row["note"] for row in answer["rows"] if row["group"] == "gpu"] == ["no GPU"] * 4 or Path("/proc/driver/nvidia").exists()
    assert set(answer["bottleneck"].values()) <= {"link", "disk", "cores"}
    assert answer["advice"].startswith("The bottleneck")
    assert answer["peak_bytes"] < 512 << 20
    assert json.loads(saved.read_text()) == answer
    assert "measuring: snapshot" in done.err
    assert answer["advice"] in done.err
    text = page.read_text()
    assert answer["machine"]["cpu"] in text
    charts = sorted(path.name for path in tmp_path.glob("machine-*.svg"))
    assert "machine-codecs-gb-s.svg" in charts
    for name in charts:
        ET.parse(tmp_path / name)
        assert f"({name})" in text
    assert list(folder.iterdir()) == []
    assert not cli.home.exists()
    assert cli.objects() == {}  # the probe of the store is gone again


def test_no_store_and_a_page(cli: Cli, folder: Path, tmp_path: Path) -> None:
    cli.extra["TORPOR_STORAGE"] = ""
    page = tmp_path / "machine.html"
    done = cli.ok("bench", *SMALL, "--folder", folder, "--report", page, "--quiet")
    assert "No store was named: a link below" in done.out
    assert done.err == ""
    text = page.read_text()
    assert text.count("<svg") == text.count("</svg>") >= 4
    assert "no store was named" in text


@pytest.mark.parametrize(("signum", "when"), [(signal.SIGINT, "workspace"), (signal.SIGTERM, "repository")])
def test_an_interrupted_measurement_leaves_nothing(cli: Cli, folder: Path, signum: signal.Signals, when: str) -> None:
    process = cli.start("bench", "--size", "24M", "--folder", folder, "--json")
    until(lambda: any(folder.glob(f"*/{when}")), f"the {when}")
    process.send_signal(signum)
    done = finish(process)
    assert done.code == 130, done.err
    assert done.json["what"] == "The measurement was stopped."
    assert list(folder.iterdir()) == []


def test_what_it_refuses(cli: Cli, folder: Path, tmp_path: Path) -> None:
    assert "too little" in cli.fails(2, "bench", "--size", "1M")["what"]
    assert "There is no folder" in cli.fails(10, "bench", "--folder", tmp_path / "none")["what"]
    assert "are needed" in cli.fails(20, "bench", "--size", "100000G", "--folder", folder)["what"]
    assert "neither Markdown nor HTML" in cli.fails(2, "bench", "--report", tmp_path / "x.pdf")["what"]
    for flag in ("--report", "--save"):
        assert "can't be written" in cli.fails(2, "bench", flag, tmp_path / "none" / "x.md")["what"]
    assert list(folder.iterdir()) == []
