"""Codecs by both ways: the compiled call, and Python's zstd with numpy. What they make, accept and refuse must be the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from torpor.codecs.base import Buffer, Codec, Hint, Scratch
from torpor.errors import Malformed
from torpor.native import coding


@contextmanager
def in_python() -> Iterator[None]:
    """As where zstd can't be called from C."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coding, "native", lambda: None)
        yield


def encode(codec: Codec, raw: Buffer, hint: Hint, scratch: Scratch | None = None) -> bytes | None:
    assert coding.native() is not None, "no compiled kernels; is there a compiler? ./dev setup"
    first = _encoded(codec, raw, hint, scratch or Scratch())
    with in_python():
        assert _encoded(codec, raw, hint, Scratch()) == first
    return first


def decode(codec: Codec, coded: Buffer, raw_length: int, scratch: Scratch | None = None) -> bytes:
    assert coding.native() is not None
    first = _decoded(codec, coded, raw_length, scratch or Scratch())
    with in_python():
        second = _decoded(codec, coded, raw_length, Scratch())
    if isinstance(first, Malformed):
        assert isinstance(second, Malformed)
        assert str(second) == str(first)
        raise first
    assert second == first
    return first


def _encoded(codec: Codec, raw: Buffer, hint: Hint, scratch: Scratch) -> bytes | None:
    coded = codec.encode(raw, scratch, hint)
    return None if coded is None else bytes(coded)


def _decoded(codec: Codec, coded: Buffer, raw_length: int, scratch: Scratch) -> bytes | Malformed:
    whole = bytearray(b"\xa5" * (raw_length + 2 * 64))
    try:
        codec.decode(coded, raw_length, memoryview(whole)[64 : 64 + raw_length], scratch)
    except Malformed as error:
        return error
    finally:
        assert whole[:64] == whole[64 + raw_length :] == b"\xa5" * 64
    return bytes(whole[64 : 64 + raw_length])
