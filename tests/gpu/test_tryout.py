"""What measures a GPU, and what says whether and how one is used."""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path

import pytest

from tests.gpu.child import command
from torpor.bench import gpu
from torpor.errors import UsageError
from torpor.gpu import detect, tryout
from torpor.gpu import lane as lanes
from torpor.plan import limits
from torpor.settings import load
from torpor.testing.samples import weights

MIB = 1 << 20


@pytest.fixture
def with_gpu(library: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(detect, "present", lambda: True)
    monkeypatch.setattr(tryout, "SLOTS", 4)
    monkeypatch.setattr(lanes, "COMMAND", command(library))
    return monkeypatch


def test_figures_and_bytes(with_gpu: pytest.MonkeyPatch) -> None:
    raw = weights("bf16", MIB)
    with tryout.tryout(3) as found:
        assert min(found.copies(len(raw), 0.01)) > 0
        speed, coded = found.encode(raw, 2, 0b10, 0.01)
        assert speed > 0
        assert len(coded) == 3
        assert len(raw) / len(coded[0]) > 1.4
        speed, back = found.decode(coded[0], len(raw), 0.01)
        assert speed > 0
        assert back == [raw] * 3


def test_rows_of_the_bench(with_gpu: pytest.MonkeyPatch) -> None:
    rows = list(gpu.rows(0.01))
    assert [row.name for row in rows] == [*gpu.NAMES]
    assert all(row.value for row in rows)
    assert [row.limit_name for row in rows] == ["", "", "copy to the GPU", "copy from the GPU"]


@pytest.mark.parametrize(("fault", "says"), [("early", "in use by others"), ("unable", "did not do"), ("die", "exit code -9")])
def test_rows_without_figures_say_why(with_gpu: pytest.MonkeyPatch, library: Path, fault: str, says: str) -> None:
    with_gpu.setattr(lanes, "COMMAND", command(library, fault))
    rows = list(gpu.rows(0.01))
    assert [row.name for row in rows] == [*gpu.NAMES]
    assert [row.value for row in rows] == [None] * 4
    assert says in rows[0].note or "did not do" in rows[0].note


def test_a_driver_and_cupy_make_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(detect, "_DEVICE", (str(tmp_path / "nothing"),))
    assert not detect.present()
    monkeypatch.setattr(detect, "_DEVICE", (str(tmp_path / "nothing"), str(tmp_path)))
    for found in (None, object()):
        monkeypatch.setattr(util, "find_spec", lambda name, found=found: found)
        assert detect.present() == (found is not None)
    assert "cupy" not in sys.modules


def test_memory_for_slots() -> None:
    gib = 1 << 30
    assert limits.slots(gib // 2, 100 * gib) == 32
    assert limits.slots(8 * gib, 100 * gib) == 64
    assert limits.slots(8 * gib, gib) == 16
    assert limits.slots(8 * gib, gib // 8) == limits.slots(8 * gib, 0) == limits.slots(40 * MIB, gib) == 0


def test_the_setting() -> None:
    assert load({"TORPOR_HOME": "/h"}).gpu == load({"TORPOR_HOME": "/h", "TORPOR_GPU": "auto"}).gpu == "auto"
    assert load({"TORPOR_HOME": "/h", "TORPOR_GPU": "off"}).gpu == "off"
    with pytest.raises(UsageError, match="TORPOR_GPU=on"):
        load({"TORPOR_HOME": "/h", "TORPOR_GPU": "on"})
