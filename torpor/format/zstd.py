"""zstd: the standard library's module from Python 3.14, its backport before. Output is bounded, windows too."""

from __future__ import annotations

import sys
from typing import Any

from torpor.errors import Malformed
from torpor.format.version import WINDOW_LOG_MAX

if sys.version_info >= (3, 14):
    from compression import zstd as lib
else:
    from backports import zstd as lib

_OPTIONS: Any = {lib.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}


def compress(data: bytes | bytearray | memoryview, level: int = 1) -> bytes:
    """One frame with its content size."""
    return lib.compress(data, level, None)


def decompress(frame: bytes | bytearray | memoryview, raw_length: int) -> bytes:
    """Decode exactly one frame to exactly `raw_length` bytes; anything else is `Malformed`."""
    decoder = lib.ZstdDecompressor(options=_OPTIONS)
    try:
        if lib.get_frame_info(frame).decompressed_size != raw_length:
            raise Malformed("A zstd frame declares another length than its place does.")
        raw: bytes = decoder.decompress(frame, max_length=raw_length)
        # The output may be complete while the frame's end has not been looked at yet.
        if len(raw) == raw_length and not decoder.eof and (decoder.decompress(b"", max_length=1) or not decoder.eof):
            raise Malformed("A zstd frame is longer than its declared length.")
    except lib.ZstdError as error:
        raise Malformed(f"A zstd frame does not decode: {error}.") from None
    if len(raw) != raw_length or decoder.unused_data:
        raise Malformed("A zstd frame has another length than declared.")
    return raw
