"""`python -m torpor.cli`."""

from __future__ import annotations

import sys

from torpor.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
