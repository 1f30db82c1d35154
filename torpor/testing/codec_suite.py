"""What every codec must do. Subclass `CodecSuite`, say `id` and `name`, make the codec:

class TestMine(CodecSuite):
    id, name = 77, "mine"

    def make(self) -> Codec:
        return Mine()
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Sequence

import pytest

from torpor.codecs.base import NO_HINT, Buffer, Codec, Hint, Scratch
from torpor.errors import Malformed
from torpor.format.version import CHUNK_MAX
from torpor.testing import samples

SIZES = (1, 2, 3, 4, 5, 7, 8, 63, 64, 65, 1000, 4095, 65_536, 65_537, 1_000_003, CHUNK_MAX - 1, CHUNK_MAX)
GUARD = 64  # bytes before and behind `out` that a decoder must not touch


class CodecSuite:
    id: int
    name: str
    # Hints to try the codec with: whatever they say, what comes back must be what went in.
    hints: Sequence[Hint] = (NO_HINT,)
    # A codec that never gives up; else the suite allows None for what does not shrink.
    always = False

    @abstractmethod
    def make(self) -> Codec:
        """The codec."""

    @pytest.fixture(autouse=True)
    def _prepare(self) -> None:
        self.codec = self.make()
        self.scratch = Scratch()

    def encode(self, data: Buffer, hint: Hint = NO_HINT) -> bytes | None:
        """Coded bytes that outlive the scratch."""
        coded = self.codec.encode(data, self.scratch, hint)
        assert not (self.always and coded is None)
        return None if coded is None else bytes(coded)

    def decode(self, coded: Buffer, raw_length: int) -> bytes:
        """Decode between guards and check that they stand."""
        whole = bytearray(b"\xa5" * (raw_length + 2 * GUARD))
        try:
            self.codec.decode(coded, raw_length, memoryview(whole)[GUARD : GUARD + raw_length], self.scratch)
        finally:
            assert whole[:GUARD] == whole[GUARD + raw_length :] == b"\xa5" * GUARD
        return bytes(whole[GUARD : GUARD + raw_length])

    def coded_samples(self, size: int) -> list[tuple[bytes, bytes]]:
        """(raw, coded) of each kind of sample that the codec takes."""
        found = [(raw, self.encode(raw, hint)) for raw in samples.kinds(size).values() for hint in self.hints]
        taken = [(raw, coded) for raw, coded in found if coded is not None]
        assert taken
        return taken

    # what it is

    def test_id_and_name_are_what_the_format_says(self) -> None:
        assert (self.codec.id, self.codec.name) == (self.id, self.name)

    # round trips

    @pytest.mark.parametrize("kind", ["bf16", "fp32", "fp16", "text", "random", "zeros"])
    def test_round_trips_of_all_sizes(self, kind: str) -> None:
        whole = bytes(CHUNK_MAX) if kind == "zeros" else samples.kinds()[kind]
        for hint in self.hints:
            for size in SIZES:
                raw = whole[CHUNK_MAX - size :]
                coded = self.encode(raw, hint)
                if coded is not None:
                    assert len(coded) < size or self.always
                    assert self.decode(coded, size) == raw

    def test_takes_bytes_bytearray_and_memoryview(self) -> None:
        for raw, coded in self.coded_samples(100_000):
            for hint in self.hints:
                views = [self.encode(view, hint) for view in (raw, bytearray(raw), memoryview(raw), memoryview(b"x" + raw)[1:])]
                assert len(set(views)) == 1
            for form in (coded, bytearray(coded), memoryview(coded), memoryview(b"x" + coded)[1:]):
                assert self.decode(form, len(raw)) == raw

    def test_the_input_is_left_alone(self) -> None:
        for raw in samples.kinds(100_000).values():
            data = bytearray(raw)
            coded = self.encode(data)
            assert data == raw
            if coded is not None:
                before = bytearray(coded)
                self.decode(before, len(raw))
                assert before == coded

    def test_a_scratch_serves_many_chunks(self) -> None:
        """What one chunk left in it must not show in the next, and a decoder must not touch what was coded."""
        for size in (CHUNK_MAX, 70_000, 1_000_003):
            for raw in samples.kinds(size).values():
                coded = self.codec.encode(raw, self.scratch, self.hints[-1])
                if coded is not None:
                    assert self.decode(coded, size) == raw
                    assert self.decode(coded, size) == raw
                    other = self.codec.encode(raw, Scratch(), self.hints[-1])
                    assert other is not None
                    assert bytes(other) == bytes(coded)

    # hostile bytes

    def test_cut_off_bytes_are_refused(self) -> None:
        for raw, coded in self.coded_samples(300_000):
            for length in sorted({0, 1, 2, 15, 16, 17, 40, len(coded) // 2, len(coded) - 16, len(coded) - 2, len(coded) - 1}):
                with pytest.raises(Malformed):
                    self.decode(coded[: min(length, len(coded) - 1)], len(raw))

    def test_bytes_after_the_end_are_refused(self) -> None:
        for raw, coded in self.coded_samples(300_000):
            for more in (b"\0", bytes(16), coded):
                with pytest.raises(Malformed):
                    self.decode(coded + more, len(raw))

    def test_another_raw_length_is_refused(self) -> None:
        for raw, coded in self.coded_samples(300_000):
            for length in (1, len(raw) // 2, len(raw) - 4, len(raw) - 1, len(raw) + 1, len(raw) + 4, CHUNK_MAX):
                with pytest.raises(Malformed):
                    self.decode(coded, length)

    def test_changed_bytes_do_no_harm(self) -> None:
        """A seal keeps them out; still a decoder refuses them or makes something of the right length."""
        for raw, coded in self.coded_samples(150_000):
            places = {*range(min(64, len(coded))), *range(0, len(coded), max(1, len(coded) // 40)), len(coded) - 1}
            for place in sorted(places):
                for mask in (1, 0x80, 0xFF):
                    changed = bytearray(coded)
                    changed[place] ^= mask
                    self.refuses_or_decodes(changed, len(raw))

    def test_any_bytes_do_no_harm(self) -> None:
        for size in (0, 1, 2, 17, 100, 5000):
            for seed in range(30):
                self.refuses_or_decodes(samples.noise(size, seed), 10_000)
            self.refuses_or_decodes(bytes(size), 10_000)
            self.refuses_or_decodes(b"\xff" * size, 10_000)

    def refuses_or_decodes(self, coded: Buffer, raw_length: int) -> None:
        try:
            self.decode(coded, raw_length)
        except Malformed:
            return

    # threads

    def test_threads_do_not_meet(self) -> None:
        """Four threads, one codec, a scratch each."""
        chunks = list(samples.kinds(1_000_003).values())
        wanted = [self.encode(raw, self.hints[-1]) for raw in chunks]
        failures: list[str] = []
        barrier = threading.Barrier(4)

        def run(turn: int) -> None:
            scratch = Scratch()
            barrier.wait(timeout=60)
            for number in range(len(chunks)):
                place = (turn + number) % len(chunks)
                raw, out = chunks[place], bytearray(len(chunks[place]))
                coded = self.codec.encode(raw, scratch, self.hints[-1])
                if (None if coded is None else bytes(coded)) != wanted[place]:
                    failures.append(f"thread {turn} coded chunk {place} differently")
                if coded is not None:
                    self.codec.decode(coded, len(raw), memoryview(out), scratch)
                    if out != raw:
                        failures.append(f"thread {turn} decoded chunk {place} differently")

        threads = [threading.Thread(target=run, args=(turn,)) for turn in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)
        assert failures == []
        assert not any(thread.is_alive() for thread in threads)
