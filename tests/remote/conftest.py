"""Bare hosts: an empty home folder, a plain environment, and no more than a Python. A store whose requests are counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.door import Door
from tests.engine.lab import Lab
from tests.remote.bare import Bare


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The control side's cache of bundles: they are made once."""
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    return Bare(tmp_path / "me")


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with Door(tmp_path / "store") as found:
        yield found


@pytest.fixture
def lab(tmp_path: Path, door: Door) -> Lab:
    """Its store grants two objects at a time, so that jobs ask again and again."""
    made = Lab(tmp_path / "lab", store=door.store())
    made.repository.store = door.store(few=2)
    return made
