"""Codec 0: the bytes as they are, for what does not shrink."""

from __future__ import annotations

from torpor.codecs.base import NO_HINT, Buffer, Hint, Scratch, malformed
from torpor.format.version import CODEC_RAW


class Raw:
    id = CODEC_RAW
    name = "raw"

    def encode(self, data: Buffer, scratch: Scratch, hint: Hint = NO_HINT) -> Buffer | None:
        return data

    def decode(self, coded: Buffer, raw_length: int, out: memoryview, scratch: Scratch) -> None:
        if len(coded) != raw_length:
            raise malformed(self.name, f"it has {len(coded)} bytes instead of {raw_length}")
        out[:] = coded
