"""The benchmark of a GPU, as far as it goes without one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import bench_gpu
from tests.gpu.child import command
from tests.gpu.shim import Shim
from torpor.gpu import detect, tryout
from torpor.gpu import lane as lanes


def test_kernels_alone(library: Path) -> None:
    for dtype, found in bench_gpu.kernels(Shim(library), 1, 0.01).items():
        assert "error" not in found, found
        assert found["came_back"] is found["libzstd_agrees"] is found["zstd_command_agrees"] is True
        assert found["frames_not_ok"] == 0
        assert float(found["ratio"]) > (1.45 if dtype == "bf16" else 1.1)
        assert float(found["encode_gb_s"]) > 0
        assert float(found["decode_gb_s"]) > 0


def test_through_the_process(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tryout, "SLOTS", 2)
    monkeypatch.setattr(lanes, "COMMAND", command(library))
    found = bench_gpu.process(0.01)
    assert [*found] == ["copies", "bf16", "fp16", "fp32"]
    assert all(found[dtype]["came_back"] is True for dtype in bench_gpu.DTYPES)


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_gpu"])
    monkeypatch.setattr(detect, "present", lambda: False)
    assert bench_gpu.main() == 0
    assert capsys.readouterr().out == "no GPU with CuPy here: nothing was measured\n"


def test_a_part_that_fails_says_why(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "FAILED", [])
    assert bench_gpu.attempt(lambda: {"a": 1 // 0}) == {"error": "ZeroDivisionError: integer division or modulo by zero"}
    assert bench_gpu.attempt_all(lambda: {"a": {"b": 1 // 0}}) == {
        "all": {"error": "ZeroDivisionError: integer division or modulo by zero"}
    }
    assert bench_gpu.attempt_all(lambda: {"a": {"b": 1}}) == {"a": {"b": 1}}
    assert len(bench_gpu.FAILED) == 2
    assert capsys.readouterr().err.count("Traceback") == 2
