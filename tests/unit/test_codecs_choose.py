from __future__ import annotations

import bz2
import sys
import sysconfig
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.unit.test_codecs_headers import head, tensor
from torpor.codecs.base import Codec, Hint, Scratch
from torpor.codecs.choose import RELY, Chooser
from torpor.codecs.table import by_name
from torpor.codecs.zstd import HUFFMAN
from torpor.errors import UsageError
from torpor.format.entries import CHUNKER_FIXED, CHUNKER_SAFETENSORS
from torpor.format.version import CHUNK_MAX, CLASS_BUNDLE, CLASS_CRITICAL, CLASS_LARGE
from torpor.testing import samples

MIB = 1024 * 1024
SCRATCH = Scratch()


def names(choice: tuple[Codec, Hint]) -> tuple[str, int, int]:
    return choice[0].name, choice[1].width, choice[1].lead


def take(chooser: Chooser, data: bytes, offset: int | None = None) -> tuple[str, int]:
    """Do with a chunk what a worker does: (codec chosen, coded length)."""
    codec, hint = chooser.choose(memoryview(data), offset)
    coded = codec.encode(data, SCRATCH, hint)
    length = len(data) if coded is None else len(coded)
    chooser.outcome(len(data), length)
    return codec.name, length


@pytest.mark.parametrize("size", [MIB // 8, MIB, CHUNK_MAX])
@pytest.mark.parametrize(("dtype", "width"), [("bf16", 2), ("fp16", 2), ("fp32", 4)])
def test_floats_are_known_by_their_bytes_at_every_phase(dtype: str, width: int, size: int) -> None:
    """As in `.pt`, `.bin` and `.npy` files whose header nobody reads."""
    raw = samples.weights(dtype, size)
    for lead in range(width):
        data = memoryview(samples.noise(lead) + raw)
        codec, hint = Chooser().choose(data)
        assert (codec.name, hint.width) == ("planes", width)
        coded = codec.encode(data, SCRATCH, hint)
        assert coded is not None
        length = len(coded)
        assert abs(length / size - hint.expected) < 0.02
        best = codec.encode(data, SCRATCH, Hint(width, lead))
        assert best is not None
        assert length < 1.015 * len(best)


def test_other_floats_that_planes_serve_best() -> None:
    rng = np.random.default_rng(5)
    narrow = np.frombuffer(samples.weights("bf16", MIB), "<u2")
    second_moments = (rng.standard_normal(MIB // 4, np.float32) * 1e-3) ** 2
    cases = {
        "fp32 that was bf16": ((narrow.astype("<u4") << 16).tobytes(), ("planes", 4, 0)),
        "fp32 second moments": (second_moments.tobytes(), ("planes", 4, 0)),
        "bf16, half of it zeros": (np.where(rng.random(len(narrow)) < 0.5, 0, narrow).astype("<u2").tobytes(), ("planes", 2, 0)),
    }
    for what, (raw, wanted) in cases.items():
        assert names(Chooser().choose(raw)) == wanted, what


def modules() -> bytes:
    """4 MiB of Python's own modules."""
    out = bytearray()
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("**/*.py")):
        if len(out) < CHUNK_MAX and "site-packages" not in path.parts:
            out += path.read_bytes()
    return bytes(out[:CHUNK_MAX])


def test_text_goes_to_zstd() -> None:
    for data in (samples.text(), modules(), bytes(MIB), b"ab" * MIB):
        codec, hint = Chooser().choose(data)
        assert (codec.name, hint.level) == ("zstd", 1)
        coded = codec.encode(data, SCRATCH, hint)
        assert coded is not None
        assert len(coded) < 0.7 * len(data)


def test_machine_code_shrinks_as_by_zstd() -> None:
    data = Path(sys.executable).resolve().read_bytes()[:CHUNK_MAX]
    codec, hint = Chooser().choose(data)
    coded, plain = codec.encode(data, SCRATCH, hint), by_name("zstd").encode(data, Scratch())
    assert coded is not None
    assert plain is not None
    assert len(coded) <= 1.01 * len(plain)


def test_what_does_not_shrink_is_left_raw() -> None:
    for data in (samples.noise(), samples.noise(20_000), bz2.compress(samples.text(), 1)):
        assert Chooser().choose(data)[0].name == "raw"


def test_uneven_bytes_without_repetition_are_huffman_coded() -> None:
    """8-bit floats and quantised weights: no phase to find, no matches."""
    rng = np.random.default_rng(3)
    data = np.clip(rng.standard_normal(MIB) * 25, -127, 127).astype(np.int8).tobytes()
    codec, hint = Chooser().choose(data)
    assert (codec.name, hint.level) == ("zstd", HUFFMAN)
    coded = codec.encode(data, SCRATCH, hint)
    plain = codec.encode(data, SCRATCH)
    assert coded is not None
    assert plain is not None
    assert len(coded) <= 1.005 * len(plain)
    assert Chooser(level=5).choose(data)[1].level == 5


def test_short_chunks_are_not_looked_at() -> None:
    for data in (b"x", samples.noise(1000), samples.weights("bf16", 10_000)):
        assert Chooser().choose(data)[0].name == "zstd"


@pytest.mark.parametrize("policy", ["raw", "zstd", "lz4"])
def test_a_policy_is_followed_whatever_the_bytes_are(policy: str) -> None:
    for data in samples.kinds(100_000).values():
        assert take(Chooser(policy), data)[0] == policy


def test_levels() -> None:
    text = samples.text(MIB)
    assert Chooser(kind=CLASS_CRITICAL).choose(text)[1].level == 3
    assert Chooser(kind=CLASS_BUNDLE).choose(text)[1].level == Chooser(kind=CLASS_LARGE).choose(text)[1].level == 1
    assert Chooser("auto", 9).choose(text)[1].level == Chooser("zstd", 9, CLASS_CRITICAL).choose(text)[1].level == 9
    for level in (-1, 20, 1000):
        with pytest.raises(UsageError, match="level"):
            Chooser("zstd", level)
    with pytest.raises(UsageError, match="brotli"):
        Chooser("brotli")


def test_nothing_is_learned_from_short_chunks() -> None:
    chooser = Chooser()
    for _ in range(3):
        take(chooser, samples.noise(1000))
    assert take(chooser, samples.weights("bf16", MIB))[0] == "planes"


# memory


def test_after_a_foreseen_outcome_chunks_are_taken_without_a_look() -> None:
    """Text where floats were foreseen shows that nobody looked; the outcome then brings the next look."""
    chooser = Chooser()
    floats, text = samples.weights("bf16", MIB), samples.text(MIB)
    assert take(chooser, floats)[0] == "planes"
    assert take(chooser, floats)[0] == "planes"
    assert take(chooser, text)[0] == "planes"
    assert take(chooser, text)[0] == "zstd"


def test_without_an_outcome_every_chunk_is_looked_at() -> None:
    chooser = Chooser()
    assert chooser.choose(samples.weights("bf16", MIB))[0].name == "planes"
    assert chooser.choose(samples.text(MIB))[0].name == "zstd"


def test_a_file_that_becomes_compressible_is_noticed_at_once() -> None:
    chooser = Chooser()
    for _ in range(3):
        assert take(chooser, samples.noise(MIB)) == ("raw", MIB)
    assert take(chooser, samples.text(MIB))[0] == "zstd"
    assert take(chooser, samples.noise(MIB))[1] == MIB
    assert take(chooser, samples.noise(MIB)) == ("raw", MIB)


def test_an_estimate_that_is_off_for_the_whole_file_costs_two_looks() -> None:
    """Two outcomes that agree with each other are relied upon like one that was foreseen."""
    chooser = Chooser()
    for _ in range(2):
        choice = chooser.choose(samples.text(MIB))
        assert choice[0].name == "zstd"
        chooser.outcome(MIB, int(MIB * (choice[1].expected + 0.2)))
    assert chooser.choose(samples.weights("bf16", MIB))[0].name == "zstd"


def test_no_file_is_relied_upon_for_ever() -> None:
    """Floats among bytes that shrink by as much would otherwise never be noticed."""
    chooser = Chooser()
    other = np.random.default_rng(1).integers(0, 96, MIB, np.uint8).tobytes()  # as far as Huffman shrinks pooled bf16
    assert take(chooser, other)[0] == "zstd"
    taken = [take(chooser, samples.weights("bf16", MIB))[0] for _ in range(RELY + 3)]
    assert taken.index("planes") <= RELY + 1
    assert taken[-1] == "planes"


# headers


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """bf16 at an odd place, then fp32, then bytes."""
    data = head({"odd": tensor("U8", 0, 1), "b": tensor("BF16", 1, MIB + 1), "f": tensor("F32", MIB + 1, 2 * MIB + 1)})
    path = tmp_path / "model"
    path.write_bytes(data + b"x" + samples.weights("bf16", MIB) + samples.weights("fp32", MIB) + bytes(10))
    return path


def test_a_header_tells_widths_and_phases(mixed: Path) -> None:
    data = mixed.read_bytes()
    chooser = Chooser()
    with mixed.open("rb") as stream:
        first, chunker = chooser.begin(stream.fileno(), len(data), b"model")
    assert chunker == CHUNKER_SAFETENSORS
    half = MIB // 2
    for _ in range(3):  # in turns: what was learned of one kind is not taken for the other
        for at, width, lead in ((first, 2, 1), (first + half, 2, 1), (first + MIB + 1, 4, 0), (first + MIB + half, 4, 1)):
            chunk = data[at : at + half]
            assert names(chooser.choose(chunk, at)) == ("planes", width, lead)
            assert take(chooser, chunk, at)[1] < 0.85 * half


def test_a_header_that_lies_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "liar"
    text = samples.text(MIB)
    path.write_bytes(head({"t": tensor("BF16", 0, MIB)}) + text)
    chooser = Chooser()
    with path.open("rb") as stream:
        first, _ = chooser.begin(stream.fileno(), path.stat().st_size)
    assert take(chooser, text, first)[0] == "zstd"


def test_a_file_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(samples.weights("bf16", MIB))
    chooser = Chooser()
    with path.open("rb") as stream:
        assert chooser.begin(stream.fileno(), MIB) == (0, CHUNKER_FIXED)
    assert names(chooser.choose(path.read_bytes(), 0)) == ("planes", 2, 0)


def test_threads_share_a_chooser() -> None:
    """Each thread's outcome is of its own chunk."""
    chooser = Chooser()
    kinds = {"planes": samples.weights("fp32", MIB), "zstd": samples.text(MIB), "raw": samples.noise(MIB)}
    barrier = threading.Barrier(3)
    failures: list[str] = []

    def run(data: bytes) -> None:
        scratch = Scratch()
        barrier.wait(timeout=60)
        for _ in range(20):
            codec, hint = chooser.choose(data)
            coded = codec.encode(data, scratch, hint)
            if coded is not None:
                out = bytearray(len(data))
                codec.decode(bytes(coded), len(data), memoryview(out), scratch)
                if out != data:
                    failures.append(codec.name)
            chooser.outcome(len(data), len(data) if coded is None else len(coded))

    threads = [threading.Thread(target=run, args=(data,)) for data in kinds.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
    for name, data in kinds.items():  # and each kind is found again, a look later at most
        taken = [take(chooser, data)[0] for _ in range(3)]
        assert taken[-1] == name
