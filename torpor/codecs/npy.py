"""The header of a `.npy` file, which holds one array. Untrusted; what is not understood gives None."""

from __future__ import annotations

import re

from torpor.codecs.arrays import Arrays

_MAGIC = b"\x93NUMPY"
_DESCR = re.compile(rb"'descr': *'([<>|=]?[A-Za-z][0-9]+)'")
_WIDTHS = {b"<f2": 2, b"<f4": 4, b"<V2": 2, b"|V2": 2}  # V2: how bf16 is written, for want of a name


def parse(head: bytes | memoryview, size: int) -> Arrays | None:
    """The array of a file of `size` bytes, from its first 128 or more (one header in practice)."""
    head = bytes(head[:65_536])
    if len(head) < 12 or not head.startswith(_MAGIC) or head[6] not in (1, 2, 3):
        return None
    begin = 10 if head[6] == 1 else 12
    start = begin + int.from_bytes(head[8:begin], "little")
    found = _DESCR.search(head, begin, start)
    if not found or not start < size:
        return None
    return Arrays([(start, size, _WIDTHS.get(found[1], 0))])
