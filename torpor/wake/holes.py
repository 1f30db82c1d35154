"""Where a file of the target has data: can it be mended in place, so that its holes end up where the snapshot has them?"""

from __future__ import annotations

import errno
import os
from array import array


def is_data(fd: int, start: int, length: int) -> bool:
    """Whether a stretch that lies within the file has no hole."""
    return os.lseek(fd, start, os.SEEK_HOLE) >= start + length


def fits(fd: int, status: os.stat_result, size: int, extents: array[int] | None) -> bool:
    """Whether what the file has of data, up to `size`, lies within `extents`, to the block: a write can fill a hole, but make none."""
    if extents is None:
        return True
    wanted = _blocks(extents, max(4096, status.st_blksize))
    at, number, end = 0, 0, min(size, status.st_size)
    while at < end:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return True
            raise
        if start >= end:
            return True
        at = min(os.lseek(fd, start, os.SEEK_HOLE), end)
        while number < len(wanted) and wanted[number + 1] <= start:
            number += 2
        if number == len(wanted) or wanted[number] > start or wanted[number + 1] < at:
            return False
    return True


def _blocks(extents: array[int], block: int) -> array[int]:
    """The extents grown to whole blocks, as a flat array (start, end, …); those that then touch are joined."""
    out = array("Q")
    for offset, length in zip(extents[::2], extents[1::2], strict=True):
        start, end = offset // block * block, -(-(offset + length) // block) * block
        if out and start <= out[-1]:
            out[-1] = end
        else:
            out.extend((start, end))
    return out
