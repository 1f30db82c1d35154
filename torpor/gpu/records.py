"""What kernels/records.cuh says, for the host: limits, states of a frame, and the records that cross over."""

from __future__ import annotations

import numpy as np

BLOCK_MAX = 131_072  # raw bytes of a zstd block
ALIGN = 16  # frames begin at multiples of it
PLAN_BYTES = 1224  # of the kernels' own records: how a block will be written,
BLOCK_BYTES = 48  # and a block found in a frame

OK, NOT_OURS, DAMAGED = 0, 1, 2  # of a frame; NOT_OURS: valid perhaps, but it holds more than literals: the CPU's to decode

FRAME = np.dtype([("from", "<u8"), ("to", "<u8"), ("size", "<u4"), ("raw", "<u4")])

THREADS = {  # of a block, as the kernels are compiled for
    "split2": 256,
    "split4": 256,
    "merge2": 256,
    "merge4": 256,
    "plan_blocks": 256,
    "place_blocks": 256,
    "write_blocks": 256,
    "read_frames": 64,
    "decode_blocks": 64,
}
