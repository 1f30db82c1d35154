"""`python -m torpor.cli`."""

from __future__ import annotations

from torpor.cli.main import command

if __name__ == "__main__":
    command()
