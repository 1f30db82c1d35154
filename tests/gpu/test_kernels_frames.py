"""Frames of Huffman coded literals: the kernels' by zstd, the CPU's and their own by the kernels."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gpu.planes import EDGES, KINDS, decoded, exponents, lengths, made_up, on_cpu, on_device
from tests.gpu.shim import SANITIZE, Shim, compiler
from torpor.codecs.planes import FRAME
from torpor.errors import Malformed
from torpor.format.zstd import compress, decompress, lib  # type: ignore[attr-defined]
from torpor.gpu import coder, records
from torpor.gpu.device import KERNELS
from torpor.gpu.records import DAMAGED, NOT_OURS, OK


def block_kinds(frame: bytes) -> list[str]:
    """What a frame with a single segment is made of, read by hand."""
    assert frame[4] & 0x20
    at, kinds, last = 5 + (1, 2, 4, 8)[frame[4] >> 6], list[str](), False
    while not last:
        head = int.from_bytes(frame[at : at + 3], "little")
        last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
        kinds.append(("raw", "rle", ("raw literals", "rle literals", "huffman", "treeless")[frame[at + 3] & 3])[kind])
        at += 3 + (1 if kind == 1 else size)
    assert at == len(frame)
    return kinds


def round_trip(shim: Shim, plane: np.ndarray, frame: int = FRAME) -> list[bytes]:
    """zstd and the kernels decode what the kernels made of it."""
    made = on_device(shim, plane, frame)
    raw = lengths(len(plane), frame)
    assert b"".join(decompress(one, length) for one, length in zip(made, raw, strict=True)) == plane.tobytes()
    assert decoded(shim, made, raw, -(-frame // records.BLOCK_MAX)) == (plane.tobytes(), [OK] * len(made))
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_plane_comes_back(shim: Shim, kind: str) -> None:
    for size in (*EDGES, 600_000):
        plane = made_up(kind, size)
        made = round_trip(shim, plane)
        kinds = {found for frame in made for found in block_kinds(frame)}
        assert kinds <= {"raw", "rle", "huffman"}
        assert sum(map(len, made)) <= size + sum(9 + 3 * -(-raw // records.BLOCK_MAX) for raw in lengths(size))
        if kind == "one symbol":
            assert kinds == {"rle"}
        if kind == "noise" and size % records.BLOCK_MAX != 1:
            assert kinds == {"raw"}
        if size > 16_000 and kind not in ("one symbol", "noise", "one in the middle"):
            assert "huffman" in kinds


@pytest.mark.parametrize("frame", [131_072, 131_073, 200_001, 262_144, 1 << 22])
def test_every_size_of_frame(shim: Shim, frame: int) -> None:
    round_trip(shim, made_up("few low symbols", 700_003), frame)


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_is_as_small_as_the_cpus_within_one_percent(shim: Shim, dtype: str) -> None:
    plane = exponents(dtype)
    ours, cpu = (sum(map(len, frames)) for frames in (round_trip(shim, plane), on_cpu(plane)))
    assert ours <= 1.01 * cpu


def test_the_order_of_threads_changes_nothing(library: Path) -> None:
    for kind in KINDS:
        plane = made_up(kind, 150_001)
        first, *others = (on_device(Shim(library, turn), plane) for turn in (0, 0xFFFFFFFF, 0x35, 0xCA))
        assert all(other == first for other in others)


def test_the_zstd_command_decodes_them(shim: Shim, tmp_path: Path) -> None:
    parts = [exponents("bf16"), exponents("fp16"), *(made_up(kind, 140_000) for kind in KINDS)]
    file = tmp_path / "frames.zst"
    file.write_bytes(b"".join(frame for plane in parts for frame in on_device(shim, plane)))
    subprocess.run(["zstd", "-q", "-t", file], check=True, timeout=60)
    done = subprocess.run(["zstd", "-q", "-d", "-c", file], check=True, capture_output=True, timeout=60)
    assert done.stdout == b"".join(plane.tobytes() for plane in parts)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 256), st.integers(0, 20), st.integers(1, 140_000), st.integers(0, 255), st.integers(0, 1 << 30))
def test_any_alphabet_and_skew(library: Path, alphabet: int, skew: int, size: int, first: int, seed: int) -> None:
    dice = np.random.default_rng(seed)
    plane = dice.integers(0, alphabet, (skew + 1, size), np.uint16).min(axis=0)
    round_trip(Shim(library, seed & 255), (plane + first).astype(np.uint8))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=2000))
def test_any_bytes(library: Path, data: bytes) -> None:
    round_trip(Shim(library), np.frombuffer(data, np.uint8))


@pytest.mark.parametrize("kind", [*KINDS, "bf16", "fp16", "fp32"])
def test_the_cpus_frames_are_decoded(shim: Shim, kind: str) -> None:
    for size in (*EDGES, 600_000):
        plane = made_up(kind, size) if kind in KINDS else exponents(kind)[:size]
        raw = lengths(len(plane))
        out, status = decoded(shim, on_cpu(plane), raw)
        assert set(status) <= ({OK, NOT_OURS} if kind in ("runs", "one in the middle") else {OK})
        if set(status) == {OK}:
            assert out == plane.tobytes()


def test_a_table_of_an_earlier_block_is_used_again(shim: Shim) -> None:
    plane = made_up("two symbols", FRAME)
    (frame,) = on_cpu(plane)
    assert "treeless" in block_kinds(frame)
    assert decoded(shim, [frame], [FRAME]) == (plane.tobytes(), [OK])


def test_what_is_not_ours_is_said_to_be(shim: Shim) -> None:
    words = b"planes of floats, planes of bytes, planes of bits, and so on; " * 50
    checked = lib.compress(words, options={lib.CompressionParameter.checksum_flag: 1})
    parts = lib.ZstdCompressor()  # a stream, which does not say how long it will be
    streamed = parts.compress(words[:100]) + parts.compress(words[100:]) + parts.flush()
    assert decoded(shim, [compress(words), checked, streamed], [len(words)] * 3)[1] == [NOT_OURS] * 3
    (many,) = on_device(shim, made_up("few low symbols", 1 << 20), 1 << 20)
    assert decoded(shim, [many], [1 << 20], slots=7)[1] == [NOT_OURS]
    assert decoded(shim, [many], [1 << 20], slots=8)[1] == [OK]


def test_one_damaged_frame_leaves_the_others_whole(shim: Shim) -> None:
    plane = exponents("bf16", 4 * FRAME)
    first, second = on_device(shim, plane)
    out, status = decoded(shim, [first, second[:-1], first, first + b"\0", second], [FRAME] * 5)
    assert status == [OK, DAMAGED, OK, DAMAGED, OK]
    assert out[:FRAME] + out[-FRAME:] == plane.tobytes()
    assert decoded(shim, [first], [FRAME - 1])[1] == decoded(shim, [first], [FRAME + 1])[1] == [DAMAGED]


def test_places_outside_the_buffers_are_refused(shim: Shim) -> None:
    (frame,) = on_device(shim, made_up("two symbols", 5000))
    data = shim.upload(np.frombuffer(frame, np.uint8))
    rows = [
        (0, 0, len(frame), 5000),
        (1, 0, len(frame), 5000),
        (0, 1, len(frame), 5000),
        (2**64 - 1, 0, 2, 5000),
        (0, 2**64 - 1, len(frame), 5000),
    ]
    _, status = coder.decode(shim, data, len(frame), np.array(rows, records.FRAME), 5000)
    assert status.tolist() == [OK, DAMAGED, DAMAGED, DAMAGED, DAMAGED]
    with pytest.raises(ValueError, match="at most 4 MiB"):
        coder.encode(shim, data, 0, FRAME)
    assert coder.decode(shim, data, 0, np.zeros(0, records.FRAME), 0)[1].size == 0


def small_frames(device: coder.Device) -> list[tuple[int, bytes]]:
    """(raw length, frame) by three encoders."""
    planes = [made_up(kind, size) for kind in KINDS for size in (1, 40, 255, 600, 1024, 3000, 17_000)]
    made = [(len(plane), [*on_device(device, plane), *on_cpu(plane), compress(plane.tobytes())]) for plane in planes]
    return [(raw, frame) for raw, frames in made for frame in frames]


def test_no_damaged_frame_is_read_other_than_zstd_reads_it(library: Path) -> None:
    shim, dice = Shim(library), random.Random(1)
    corpus, same = small_frames(shim), 0
    for _ in range(3000):
        raw, frame = dice.choice(corpus)
        bad = bytearray(frame)
        for _ in range(dice.randint(1, 2)):
            bad[dice.randrange(min(len(bad), dice.choice((16, 60, 1 << 20))))] ^= 1 << dice.randrange(8)
        out, (status,) = decoded(shim, [bytes(bad)], [raw])
        if status == OK:
            assert decompress(bad, raw) == out
            same += 1
        elif status == DAMAGED and len(bad) < 64:
            with pytest.raises(Malformed):
                decompress(bad, raw)
    assert same > 300


def test_nothing_is_touched_out_of_bounds(library: Path, tmp_path: Path) -> None:
    """Address and undefined-behaviour sanitizers watch while damaged frames are decoded."""
    corpus, program = tmp_path / "corpus", tmp_path / "fuzz"
    frames = [(raw, frame) for raw, frame in small_frames(Shim(library))]
    frames += [(len(plane), frame) for plane in (exponents("bf16", 280_000), exponents("fp16", 280_000)) for frame in on_cpu(plane)]
    corpus.write_bytes(b"".join(raw.to_bytes(4, "little") + len(frame).to_bytes(4, "little") + frame for raw, frame in frames))
    source = str(Path(__file__).with_name("fuzz.cpp"))
    subprocess.run([compiler(), "-std=c++17", f"-I{KERNELS}", *SANITIZE, source, "-o", program], check=True, timeout=120)
    done = subprocess.run([program, corpus, "1", "6000"], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    ok, not_ours, damaged = map(int, done.stdout.split())
    assert min(ok, not_ours, damaged) > 300
