"""Memory for buffers that live long: pages of their own, taken as they are touched."""

from __future__ import annotations

from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap


def pages(size: int) -> mmap:
    """`size` bytes of zeros, writable. A bytearray would be written to from end to end when it is made, used or not."""
    return mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS)
