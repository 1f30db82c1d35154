"""Codec 1: one zstd frame with its content size. Also how planes and byte noise are coded: literals by Huffman alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from torpor.codecs.base import NO_HINT, Buffer, Hint, Scratch, malformed
from torpor.format.version import CHUNK_MAX, CODEC_ZSTD, WINDOW_LOG_MAX
from torpor.format.zstd import lib  # type: ignore[attr-defined]
from torpor.native import coding

DEFAULT_LEVEL = 1
HUFFMAN = -131_072  # the level that stands for "no matches, literals Huffman coded"; far below zstd's fastest
_LITERALS = 1002  # ZSTD_c_literalCompressionMode, an experimental parameter of the writer alone; 1: always Huffman

_LEVEL = int(lib.CompressionParameter.compression_level)
_DECODE: Any = {lib.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}
_PIECE = 256 * 1024


@cache
def options(level: int) -> Mapping[int, int]:
    """The compressor's parameters for a level; for `HUFFMAN`, level 1 where this zstd does not know how."""
    if level != HUFFMAN:
        return {_LEVEL: level or DEFAULT_LEVEL}
    huffman = {_LEVEL: HUFFMAN, _LITERALS: 1}
    return huffman if _codes(huffman) else {_LEVEL: DEFAULT_LEVEL}


def _codes(parameters: Mapping[int, int]) -> bool:
    """Does a block of skewed bytes without repetition shrink and come back? The parameter is no promise of zstd's."""
    # Six bits of noise in each byte: nothing repeats, yet a quarter can be saved.
    block = hashlib.shake_128(b"torpor").digest(65_536).translate(bytes(i & 63 for i in range(256)))
    try:
        frame = lib.compress(block, options=parameters)
        return len(frame) < len(block) * 0.8 and lib.decompress(frame) == block
    except (lib.ZstdError, ValueError, TypeError, OverflowError):
        return False


def declared_length(frame: Buffer) -> int | None:
    """The content size in a frame's head; None if there is none, or no frame."""
    try:
        return lib.get_frame_info(frame).decompressed_size
    except lib.ZstdError:
        return None


class Zstd:
    id = CODEC_ZSTD
    name = "zstd"

    def encode(self, data: Buffer, scratch: Scratch, hint: Hint = NO_HINT) -> Buffer | None:
        """The result may lie in `scratch`."""
        if len(data) > CHUNK_MAX:
            # The window never exceeds the content, so this keeps every level within 8 MiB.
            raise ValueError("a chunk is at most 4 MiB")
        parameters = options(hint.level)
        native = coding.native()
        encoder = None if native is None else scratch.contexts(native).encoder(parameters)
        if native is not None and encoder is not None:
            out = scratch.buffer("coded", native.bound(len(data)))
            if size := coding.encode_frame(native, encoder, data, out):
                return out[:size] if size < len(data) else None
        compressor = scratch.compressor(parameters)
        coded = compressor.compress(data, compressor.FLUSH_FRAME)
        return coded if len(coded) < len(data) else None

    def decode(self, coded: Buffer, raw_length: int, out: memoryview, scratch: Scratch) -> None:
        native = coding.native()
        if native is None or not coding.decode_frame(native, scratch.contexts(native), coded, out):
            self._decode(coded, raw_length, out)

    def _decode(self, coded: Buffer, raw_length: int, out: memoryview) -> None:
        """The same through Python, which also says why bytes are refused."""
        if declared_length(coded) != raw_length:
            raise malformed(self.name, f"it is not one frame of {raw_length} bytes")
        decoder = lib.ZstdDecompressor(options=_DECODE)
        source, at = coded, 0
        try:
            # Piece by piece, so that no second copy of the chunk is made. One byte more than fits shows a frame that lies.
            while not decoder.eof:
                piece = decoder.decompress(source, min(_PIECE, raw_length - at + 1))
                if at + len(piece) > raw_length or not (piece or decoder.eof):
                    raise malformed(self.name, "it is longer than it says, or cut off")
                out[at : at + len(piece)] = piece
                at += len(piece)
                source = b""
        except lib.ZstdError as error:
            raise malformed(self.name, str(error)) from None
        if at != raw_length or decoder.unused_data:
            raise malformed(self.name, f"it holds {at} bytes instead of {raw_length}, or more follows")
