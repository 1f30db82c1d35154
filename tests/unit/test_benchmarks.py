"""What the benchmarks count and draw, without measuring."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import bench_charts, bench_scale
from benchmarks.bench_peers import Times, report, verdict
from benchmarks.peers import Peer
from benchmarks.workspaces import ROWS, change
from torpor.testing.compare import compare_trees
from torpor.testing.packages import virtual_environment

MIB = 1 << 20


def _peer(name: str, *, compresses: bool = True) -> Peer:
    return Peer(name, lambda *_: 0.0, lambda *_: 0.0, compresses=compresses)


def _times() -> list[Times]:
    return [
        Times(_peer("torpor"), saves=[2.0, 1.0, 3.0], loads=[1.0], agains=[0.5], stored=90),
        Times(_peer("cp -a", compresses=False), saves=[0.5], loads=[0.8], stored=150),
        Times(_peer("tar"), saves=[4.0], loads=[3.0], stored=120),
        Times(_peer("restic"), saves=[6.0], loads=[1.5], agains=[1.0], stored=100),
    ]


def test_a_verdict() -> None:
    assert verdict(_times()) == {
        "save_speed": 2.0, "save_fastest": "tar", "restore_speed": 1.5, "restore_fastest": "restic",
        "unchanged_speed": 2.0, "unchanged_fastest": "restic", "restore_of_copy": 1.25, "stored_part": 0.9, "stored_least": "restic",
    }  # fmt: skip
    assert verdict(_times()[:2]) == {}
    assert len(report(_times(), 150).splitlines()) == 6


@pytest.mark.parametrize("name", ROWS)
def test_a_workspace_is_the_same_each_time(name: str, tmp_path: Path) -> None:
    for which in ("a", "b"):
        ROWS[name].make(tmp_path / which, 3 * MIB)
    size = sum(path.stat().st_size for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert size > 0.15 * 3 * MIB
    assert [line for line in compare_trees(tmp_path / "a", tmp_path / "b") if "mtime" not in line] == []


def test_a_day(tmp_path: Path) -> None:
    for which in ("a", "b"):
        ROWS["day"].make(tmp_path / which, 8 * MIB)
    assert change(tmp_path / "a", 1) > 0
    differences = [line for line in compare_trees(tmp_path / "a", tmp_path / "b") if "mtime" not in line]
    assert any(line.startswith("checkpoints/step-00001.safetensors: only in the first") for line in differences)
    assert any(line.startswith("checkpoints/optimizer.pt: other bytes") for line in differences)
    assert any("only in the second" in line for line in differences)


def test_a_virtual_environment(tmp_path: Path) -> None:
    size = virtual_environment(tmp_path, 500)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 500
    assert sum(path.stat().st_size for path in files) == size
    assert 2 * 1024 < size / 500 < 60 * 1024


def test_growth() -> None:
    points = [{"size": n} | {f"{job}_s": 0.1 * n for job in (*bench_scale.JOBS, "index_open")} for n in (1.0, 10.0, 100.0)]
    found = bench_scale.growth(points)
    assert (found["snapshot_exponent"], found["restore_s_a_unit"]) == (1.0, 0.1)
    assert bench_scale.growth(points[:1]) == {}
    assert list(bench_scale.powers(10, 1000, 250_000)) == [1000, 10_000, 100_000, 250_000]


def test_charts_of_results(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    about = {"machine": {"cpu": "x", "cores": 2, "memory_gib": 4, "date": "2026-01-01"}}
    data = {times.peer.name: times.as_dict() for times in _times()}
    peers = {"workspaces": {"bf16": {"raw_bytes": 150, "files": 2, "peers": data}}}
    points = [{"size": n, "snapshot_peak": 1.0} | dict.fromkeys(("unchanged_peak", "restore_peak"), 2.0) for n in (1, 2)]
    jobs = ("snapshot_s", "restore_s", "index_open_s")
    scale = {"limit_bytes": 5, "files": {"growth": {}, "points": [point | dict.fromkeys(jobs, 1.0) for point in points]}}
    row = {"group": "files", "name": "walk", "value": 1.0, "unit": "files/s", "limit": 2.0, "limit_name": "", "reached": 0.5, "note": ""}
    made: dict[str, dict[str, object]] = {"peers-x": {**peers}, "scale-x": scale, "bench-x": {"advice": "", "rows": [row]}, "other": {}}
    for name, result in made.items():
        (results / f"{name}.json").write_text(json.dumps({**about, **result}))
    lines = bench_charts.draw(results, tmp_path / "charts")
    drawn = {path.name for path in (tmp_path / "charts").iterdir()}
    assert drawn == {
        "bench-x-files-files-s.svg", "peers-x-bf16-save.svg", "peers-x-bf16-restore.svg", "peers-x-bf16-unchanged.svg",
        "peers-x-bf16-stored.svg", "scale-x-files-snapshot.svg", "scale-x-files-restore.svg", "scale-x-files-index-open.svg",
        "scale-x-files-memory.svg",
    }  # fmt: skip
    for name in drawn:
        ET.parse(tmp_path / "charts" / name)
        assert any(line.endswith(f"(charts/{name})") for line in lines)
