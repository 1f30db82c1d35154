"""What the head of an open file says about the arrays in it, and where its steps should begin."""

from __future__ import annotations

import os
from typing import NamedTuple

from torpor.codecs import npy, safetensors
from torpor.codecs.arrays import Arrays
from torpor.format.entries import CHUNKER_FIXED, CHUNKER_SAFETENSORS

_HEAD = 4096


class Header(NamedTuple):
    """`first`: bytes of the first step, which holds the header (0: no such step). `chunker`: how the format calls that."""

    first: int
    chunker: int
    arrays: Arrays | None


def read_header(fd: int, size: int) -> Header:
    """Told from the content; the file's name does not matter. At most 16 MiB are read. Raises `OSError`."""
    head = os.pread(fd, min(_HEAD, size), 0)
    start = safetensors.data_start(head, size)
    if start is not None and start <= safetensors.PARSE_MAX:
        while len(head) < start and (more := os.pread(fd, start - len(head), len(head))):
            head += more
        tensors = safetensors.parse(head, size)
        if tensors is not None:
            return Header(start, CHUNKER_SAFETENSORS, tensors)
    return Header(0, CHUNKER_FIXED, npy.parse(head, size))
