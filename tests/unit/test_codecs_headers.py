"""Headers of safetensors and npy files: true ones are understood, false ones give None and never an error."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.codecs import npy, safetensors
from torpor.codecs.arrays import Arrays, Element
from torpor.codecs.header import read_header
from torpor.format.entries import CHUNKER_FIXED, CHUNKER_SAFETENSORS


def head(tensors: Any) -> bytes:
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


def tensor(dtype: str, start: int, end: int, **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - start], "data_offsets": [start, end], **more}


GOOD = {
    "__metadata__": {"format": "pt", "dtype": "mixed"},
    "b": tensor("F32", 1001, 5001),
    "a": tensor("BF16", 0, 1000),
    "flag": tensor("BOOL", 1000, 1001),
    "empty": tensor("F16", 5001, 5001),
}


def test_tensors_by_place_in_the_file() -> None:
    data = head(GOOD)
    start = len(data)
    assert safetensors.data_start(data[:16], start + 6000) == start
    found = safetensors.parse(data, start + 6000)
    assert found is not None
    assert list(found) == [(start, start + 1000, 2), (start + 1000, start + 1001, 0), (start + 1001, start + 5001, 4)]


def test_what_most_of_a_chunk_is() -> None:
    arrays = Arrays([(1101, 5101, 4), (100, 1100, 2), (1100, 1101, 0), (9000, 9900, 0)])
    assert arrays.dtype_at(100, 1000) == Element(2, 0)
    assert arrays.dtype_at(101, 1000) == Element(2, 1)
    assert arrays.dtype_at(0, 1000) == Element(2, 0)
    assert arrays.dtype_at(1000, 1000) == Element(4, 1)
    assert arrays.dtype_at(1104, 1000) == Element(4, 1)
    assert arrays.dtype_at(1102, 4096) == Element(4, 3)
    assert arrays.dtype_at(9000, 900) == Element(0, 0)
    assert arrays.dtype_at(5101, 1000) is None
    assert arrays.dtype_at(9400, 5000) is None
    assert Arrays([]).dtype_at(0, 10) is None
    with pytest.raises(ValueError, match="overlap"):
        Arrays([(0, 10, 2), (9, 20, 2)])


FALSE: list[Any] = [
    b"",
    b"{}",
    b"[]",
    b"{",
    b"{" + b"\xff" * 20,
    b'{"a":' * 5000,
    {"a": 1},
    {"a": {"dtype": 3, "data_offsets": [0, 1]}},
    {"a": {"dtype": "F32", "data_offsets": [0]}},
    {"a": {"dtype": "F32", "data_offsets": [0, 1, 2]}},
    {"a": {"dtype": "F32", "data_offsets": ["0", "1"]}},
    {"a": {"dtype": "F32", "data_offsets": [0.5, 1]}},
    {"a": {"dtype": "F32", "data_offsets": [-4, 4]}},
    {"a": {"dtype": "F32", "data_offsets": [8, 4]}},
    {"a": {"dtype": "F32", "data_offsets": [0, 10_001]}},
    {"a": {"dtype": "F32", "data_offsets": [0, 2**64]}},
    {"a": {"dtype": "F32", "data_offsets": [0, 2**200]}},
    {"a": tensor("F32", 0, 8), "b": tensor("F32", 4, 12)},
    {"__metadata__": {"only": "this"}},
    {"a": tensor("F32", 0, 0)},
]


@pytest.mark.parametrize("tensors", FALSE, ids=lambda value: repr(value)[:50])
def test_false_safetensors_headers_are_nothing(tensors: Any) -> None:
    data = head(tensors)
    assert safetensors.parse(data, len(data) + 10_000) is None


@pytest.mark.parametrize("length", [0, 1, 9_000, 100_000_001, 2**63, 2**64 - 1])
def test_false_lengths_are_nothing(length: int) -> None:
    data = struct.pack("<Q", length) + b'{"a":1}'
    assert safetensors.data_start(data, 5_000) is None
    assert safetensors.parse(data, 5_000) is None


def test_a_header_cut_short_is_nothing() -> None:
    data = head(GOOD)
    for length in range(len(data)):
        assert safetensors.parse(data[:length], 100_000) is None


@given(st.binary(max_size=300), st.integers(0, 400))
def test_any_bytes_give_arrays_or_nothing(data: bytes, size: int) -> None:
    for parse in (safetensors.parse, npy.parse):
        assert isinstance(parse(data, size), Arrays | None)
        assert isinstance(parse(head(data), size), Arrays | None)
        assert isinstance(parse(b"\x93NUMPY\1\0" + data, size), Arrays | None)


def test_a_hundred_thousand_tensors_stay_small() -> None:
    data = head({f"model.layers.{i}.block.weight": tensor("BF16", 8 * i, 8 * i + 8) for i in range(100_000)})
    tracemalloc.start()
    try:
        found = safetensors.parse(data, len(data) + 800_000)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found is not None
    assert len(found) == 100_000
    assert kept < 4 << 20
    assert peak < 100 << 20
    assert found.dtype_at(len(data) + 3, 400_000) == Element(2, 1)


def test_a_header_too_long_to_parse_is_left_alone() -> None:
    length = safetensors.PARSE_MAX
    data = struct.pack("<Q", length) + b'{"a":' + bytes(100)
    assert safetensors.data_start(data, 2 * length) == 8 + length
    assert safetensors.parse(data, 2 * length) is None


@pytest.mark.parametrize(("dtype", "width"), [("<f2", 2), ("<f4", 4), ("V2", 2), ("<f8", 0), ("<i4", 0), ("u1", 0), (">f4", 0), ("<U3", 0)])
def test_npy(tmp_path: Path, dtype: str, width: int) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((7, 5), dtype))
    data = path.read_bytes()
    found = npy.parse(data, len(data))
    assert found is not None
    ((start, end, is_width),) = found
    assert (end, is_width) == (len(data), width)
    assert len(data) - start == 35 * np.dtype(dtype).itemsize


def test_npy_of_records_and_damaged_ones_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(3, [("x", "<f4"), ("y", "<i2")]))
    assert npy.parse(path.read_bytes(), 1000) is None
    np.save(path, np.zeros(3, "<f4"))
    data = path.read_bytes()
    assert npy.parse(data[:20], len(data)) is None
    assert npy.parse(data, 100) is None
    assert npy.parse(data[:6] + b"\7" + data[7:], len(data)) is None


def read(path: Path) -> tuple[int, int, int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        first, chunker, arrays = read_header(fd, path.stat().st_size)
    finally:
        os.close(fd)
    return first, chunker, 0 if arrays is None else len(arrays)


def test_headers_of_files(tmp_path: Path) -> None:
    path = tmp_path / "no name tells"
    few, many = head(GOOD), head({f"layer.{i}": tensor("F16", 2 * i, 2 * i + 2) for i in range(5000)})
    path.write_bytes(few + bytes(6000))
    assert read(path) == (len(few), CHUNKER_SAFETENSORS, 3)
    path.write_bytes(many + bytes(10_000))
    assert read(path) == (len(many), CHUNKER_SAFETENSORS, 5000)
    path.write_bytes(many[:-1] + b"!" + bytes(10_000))
    assert read(path) == (0, CHUNKER_FIXED, 0)
    path.write_bytes(many)  # cut off behind its header
    assert read(path) == (0, CHUNKER_FIXED, 0)
    path.write_bytes(b"")
    assert read(path) == (0, CHUNKER_FIXED, 0)
    with path.open("wb") as stream:
        np.save(stream, np.zeros(100, "<f4"))
    assert read(path) == (0, CHUNKER_FIXED, 1)
