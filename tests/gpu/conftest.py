"""The kernels, compiled once for a run of the tests; and bytes that bring out what coders get wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu.shim import Shim, build


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("kernels") / "kernels.so")


@pytest.fixture(params=[0, 0xFFFFFFFF, 0x5A], ids=["forwards", "backwards", "mixed"])
def shim(library: Path, request: pytest.FixtureRequest) -> Shim:
    """With threads in each of three orders: within a phase they must not depend on each other."""
    return Shim(library, request.param)
