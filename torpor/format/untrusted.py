"""What decoding bytes of a stranger may raise."""

from __future__ import annotations

import msgspec

# msgspec tells bad syntax and bad types apart from bad UTF-8 and from nesting that is deeper than the interpreter's stack.
BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
