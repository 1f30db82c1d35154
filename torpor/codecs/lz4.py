"""Codec 2: one LZ4 block, without frame or size. Taken only when asked for."""

from __future__ import annotations

import lz4.block

from torpor.codecs.base import NO_HINT, Buffer, Hint, Scratch, malformed
from torpor.format.version import CODEC_LZ4


class Lz4:
    id = CODEC_LZ4
    name = "lz4"

    def encode(self, data: Buffer, scratch: Scratch, hint: Hint = NO_HINT) -> Buffer | None:
        coded: bytes = lz4.block.compress(data, store_size=False)
        return coded if len(coded) < len(data) else None

    def decode(self, coded: Buffer, raw_length: int, out: memoryview, scratch: Scratch) -> None:
        try:
            raw: bytes = lz4.block.decompress(coded, uncompressed_size=raw_length)
        except (lz4.block.LZ4BlockError, ValueError) as error:
            raise malformed(self.name, str(error)) from None
        if len(raw) != raw_length:
            raise malformed(self.name, f"it holds {len(raw)} bytes instead of {raw_length}")
        out[:] = raw
