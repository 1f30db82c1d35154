"""Fixtures of the command line's tests, for pages that are held to what commands answer."""

from __future__ import annotations

from tests.cli.conftest import cli, workspace

__all__ = ["cli", "workspace"]
