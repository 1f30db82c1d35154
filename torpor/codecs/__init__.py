"""Codecs: bytes to bytes and back, one file each (docs/format.md §6); `table` lists them, `choose` picks one for a chunk.

Implementations of one id must decode each other's output. A new codec is one file, one row of `table.ROWS`, one subclass of
`torpor.testing.codec_suite.CodecSuite`.
"""
