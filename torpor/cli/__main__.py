"""`python -m torpor.cli`."""

from __future__ import annotations

import sys

from torpor.cli.main import main

sys.exit(main())
