"""Every row of the codecs' table, held to the shipped suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit import ways
from torpor.codecs.base import NO_HINT, Codec, Hint
from torpor.codecs.lz4 import Lz4
from torpor.codecs.planes import Planes
from torpor.codecs.raw import Raw
from torpor.codecs.zstd import HUFFMAN, Zstd
from torpor.testing.codec_suite import CodecSuite


class TestRaw(CodecSuite):
    id, name, always = 0, "raw", True

    def make(self) -> Codec:
        return Raw()


class TestZstd(CodecSuite):
    id, name, hints = 1, "zstd", (NO_HINT, Hint(level=3), Hint(level=HUFFMAN))

    def make(self) -> Codec:
        return Zstd()


class TestLz4(CodecSuite):
    id, name = 2, "lz4"

    def make(self) -> Codec:
        return Lz4()


class TestPlanes(CodecSuite):
    id, name = 3, "planes"
    hints = (NO_HINT, Hint(2, 1), Hint(4, 0), Hint(4, 3))

    def make(self) -> Codec:
        return Planes()


class TestPlanesInPython(TestPlanes):
    """Where zstd can't be called from C."""

    @pytest.fixture(autouse=True)
    def _without(self) -> Iterator[None]:
        with ways.in_python():
            yield
