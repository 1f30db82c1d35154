"""Fixtures of the engine's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """An empty repository in memory."""
    return Lab(tmp_path / "lab")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty workspace."""
    path = tmp_path / "workspace"
    path.mkdir()
    return path
