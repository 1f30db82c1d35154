"""Memory for buffers that live long: pages of their own, taken as they are touched."""

from __future__ import annotations

from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap


def pages(size: int) -> mmap:
    """`size` bytes of zeros, writable. A bytearray would be written to from end to end when it is made, used or not.

    Raises `MemoryError`, never the `OSError` of the call: that would pass for the error of a file.
    """
    try:
        return mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"There is no memory for {size} bytes more: {error.strerror}.") from error
