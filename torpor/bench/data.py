"""What is measured with: made-up bytes and workspaces, from the test gear; nothing else here sees that."""

from __future__ import annotations

from pathlib import Path

from torpor.testing.compare import compare_trees
from torpor.testing.packages import virtual_environment
from torpor.testing.samples import kinds, noise
from torpor.testing.trees import ml_workspace

__all__ = ["compare_trees", "kinds", "noise", "workspace"]

_PART = 5  # of the workspace, one in so many bytes is in packages' small files
_AVERAGE = 12 * 1024


def workspace(root: Path, size: int) -> None:
    """A training machine's workspace of about `size` bytes: weights, optimizer state, data, code, and very many small files."""
    ml_workspace(root, size - size // _PART)
    virtual_environment(root / "venv", size // _PART // _AVERAGE)
