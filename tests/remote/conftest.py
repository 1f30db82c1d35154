"""Bare hosts: an empty home folder, a plain environment, and no more than a Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.remote.bare import Bare


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The control side's cache of bundles: they are made once."""
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    return Bare(tmp_path / "me")
