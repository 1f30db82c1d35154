"""The engine's end and the child process together, a CPU in the GPU's place: chunks both ways, and everything that can go wrong."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.gpu.child import command
from torpor.codecs.base import Hint, Scratch
from torpor.codecs.planes import Planes, worth
from torpor.format.version import CHUNK_MAX
from torpor.gpu import lane as lanes
from torpor.gpu import protocol
from torpor.gpu.lane import Lane
from torpor.gpu.protocol import COPY_IN, COPY_OUT, DECODE, DONE, ENCODE, REFUSED, UNABLE, Row
from torpor.testing.samples import noise, weights

KINDS = {"bf16": Hint(2), "fp16": Hint(2), "fp32": Hint(4)}


class Open:
    """A lane that is open, and what was said of its end."""

    def __init__(self, library: Path, fault: str = "none", after: int = 0, slots: int = 8) -> None:
        self.said: list[str] = []
        self.opened, self.ended = threading.Event(), threading.Event()
        self.lane = Lane(slots, self.opened.set, self._failed, command(library, fault, after))
        self.lane.start()
        if fault != "early":
            assert self.opened.wait(60)

    def _failed(self, why: str) -> None:
        self.said.append(why)
        self.ended.set()

    def encode(self, slot: int, raw: bytes, hint: Hint) -> tuple[Row | None, bytes]:
        self.lane.raw(slot)[: len(raw)] = raw
        lead, wanted = worth(memoryview(raw), hint)
        mask = sum(want << plane for plane, want in enumerate(wanted))
        row = self.lane.code(ENCODE, Row(slot, len(raw), 0, len(wanted), lead, mask))
        return row, bytes(self.lane.coded(slot)[: row.coded]) if row is not None else b""

    def decode(self, slot: int, coded: bytes, raw: int) -> tuple[Row | None, bytes]:
        self.lane.coded(slot)[: len(coded)] = coded
        row = self.lane.code(DECODE, Row(slot, raw, len(coded)))
        return row, bytes(self.lane.raw(slot)[:raw])


Opener = Callable[..., Open]


@pytest.fixture
def opened(library: Path) -> Iterator[Opener]:
    """Opens lanes; afterwards nothing is left of them."""
    made: list[Open] = []

    def make(fault: str = "none", after: int = 0, slots: int = 8) -> Open:
        made.append(Open(library, fault, after, slots))
        return made[-1]

    others = psutil.Process().children()
    before = len(os.listdir("/proc/self/fd"))
    yield make
    for one in made:
        one.lane.close()
        one.lane.join()
    assert not [child for child in psutil.Process().children() if child not in others]
    assert len(os.listdir("/proc/self/fd")) <= before


def cpu(raw: bytes, hint: Hint) -> bytes:
    coded = Planes().encode(raw, Scratch(), hint)
    assert coded is not None
    return bytes(coded)


def decoded(coded: bytes, length: int) -> bytes:
    out = bytearray(length)
    Planes().decode(coded, length, memoryview(out), Scratch())
    return bytes(out)


def chunks() -> list[tuple[bytes, Hint]]:
    found = []
    for dtype, hint in KINDS.items():
        raw = weights(dtype, CHUNK_MAX)
        sizes = [(0, CHUNK_MAX), (0, 1_500_000), (7, 900_001), (0, 262_144), (3, 70_003), (0, CHUNK_MAX - 6)]
        found += [(raw[start : start + size], Hint(hint.width, -start % hint.width)) for start, size in sizes]
    return found


def test_codes_what_the_codec_decodes_and_decodes_what_it_codes(opened: Opener) -> None:
    lane = opened()

    def there_and_back(number: int, raw: bytes, hint: Hint) -> None:
        row, coded = lane.encode(number % 8, raw, hint)
        assert row is not None
        assert row.state == DONE
        assert len(coded) < len(cpu(raw, hint)) * 1.01 + 100
        assert decoded(coded, len(raw)) == raw
        for one in (coded, cpu(raw, hint)):
            row, out = lane.decode(number % 8, one, len(raw))
            assert row is not None
            assert (row.state, out) == (DONE, raw)

    def slot(first: int) -> None:
        for number, (raw, hint) in enumerate(chunks()):
            if number % 8 == first:
                there_and_back(number, raw, hint)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(slot, range(8)))
    assert lane.said == []
    assert lane.lane.speed.bytes == sum(3 * len(raw) for raw, _ in chunks())


def test_what_does_not_shrink_is_refused_and_what_is_not_ours_is_left(opened: Opener) -> None:
    lane = opened()
    raw = noise(1_000_000)
    lane.lane.raw(0)[: len(raw)] = raw
    row = lane.lane.code(ENCODE, Row(0, len(raw), 0, 2, 0, 0b11))
    assert row is not None
    assert row.state == REFUSED
    for coded, length in ((noise(5000), 9000), (cpu(raw := weights("bf16", 1 << 20), Hint(2)), 1 << 19)):
        row, _ = lane.decode(1, coded, length)
        assert row is not None
        assert row.state == UNABLE
    bad = bytearray(cpu(raw, Hint(2)))
    bad[len(raw) // 2 + 100 : len(raw) // 2 + 110] = bytes(10)  # of a frame's head and table
    row, _ = lane.decode(2, bytes(bad), len(raw))
    assert row is not None
    assert row.state == UNABLE


@pytest.mark.parametrize(
    ("fault", "says"), [("die", "exit code -9"), ("memory", "OUT_OF_MEMORY"), ("lie", "another question"), ("hang", "in time")]
)
@pytest.mark.parametrize("after", [0, 3])
def test_a_fault_ends_it_and_lets_everybody_go(opened: Opener, monkeypatch: pytest.MonkeyPatch, fault: str, says: str, after: int) -> None:
    monkeypatch.setattr(lanes, "ANSWER", 3.0 if after else 1.0)
    lane, raw = opened(fault, after), weights("bf16", 1 << 20)
    pid = lane.lane.pid

    def work(slot: int) -> list[bytes]:
        done = []
        for _ in range(4):
            row, coded = lane.encode(slot, raw, Hint(2))
            if row is not None:
                assert row.state == DONE
                done.append(coded)
        return done

    with ThreadPoolExecutor(8) as pool:
        results = [coded for done in pool.map(work, range(8)) for coded in done]
    assert lane.ended.wait(10)
    assert len(lane.said) == 1
    assert says in lane.said[0]
    assert not lane.lane.open
    assert all(decoded(coded, len(raw)) == raw for coded in set(results))
    assert bool(results) == bool(after)
    assert not psutil.pid_exists(pid)


def test_no_memory_on_the_device_is_said_at_once(opened: Opener) -> None:
    lane = opened("early")
    assert lane.ended.wait(60)
    assert "in use by others" in lane.said[0]
    assert lane.encode(0, weights("bf16", 1 << 20), Hint(2))[0] is None


def lone(command: list[str]) -> tuple[Lane, list[str], threading.Event]:
    """A lane with this program for a child."""
    said, ended = list[str](), threading.Event()

    def failed(why: str) -> None:
        said.append(why)
        ended.set()

    return Lane(1, ended.set, failed, command), said, ended


def test_a_child_that_is_never_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "START", 0.3)
    lane, said, ended = lone(["sh", "-c", "exec sleep 60"])
    lane.start()
    assert ended.wait(10)
    lane.join()
    assert said == ["it did not answer in time"]


def test_a_program_that_is_not_there() -> None:
    lane, said, ended = lone(["/nowhere/at/all"])
    lane.start()
    assert ended.wait(10)
    lane.join()
    assert "FileNotFoundError" in said[0]


def test_killed_at_many_moments(opened: Opener) -> None:
    raw = weights("bf16", 1 << 19)
    right = None
    for moment in range(12):
        lane = opened()
        started = threading.Barrier(5)

        def work(slot: int, lane: Open = lane, started: threading.Barrier = started) -> list[bytes]:
            started.wait()
            done = []
            while (found := lane.encode(slot, raw, Hint(2)))[0] is not None:
                done.append(found[1])
            return done

        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(work, slot) for slot in range(4)]
            started.wait()
            while lane.lane.speed.bytes < moment * len(raw):
                lane.ended.wait(0.001)
            os.kill(lane.lane.pid, signal.SIGKILL)
            results = {coded for future in futures for coded in future.result()}
        right = right or next(iter(results), None)
        assert results <= {right}
    assert right is not None
    assert decoded(right, len(raw)) == raw


def test_closing_lets_those_go_who_wait(opened: Opener) -> None:
    lane, raw = opened("hang"), weights("bf16", 1 << 20)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(lane.encode, slot, raw, Hint(2)) for slot in range(4)]
        while not lane.lane._sent:
            lane.ended.wait(0.01)
        assert lane.lane.close()
        assert [future.result()[0] for future in waiting] == [None] * 4
    assert not lane.lane.close()
    assert lane.said == []


def test_the_child_sees_no_secret(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("TORPOR_PASSPHRASE", "hush")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    environment = psutil.Process(opened().lane.pid).environ()
    assert "hush" not in environment.values()
    assert environment["CUDA_VISIBLE_DEVICES"] == "0"


def test_copies_alone(opened: Opener) -> None:
    lane, raw = opened(), noise(100_000)
    lane.lane.raw(3)[: len(raw)] = raw
    assert lane.lane.code(COPY_IN, Row(3, len(raw)))
    lane.lane.raw(3)[: len(raw)] = bytes(len(raw))
    assert lane.lane.code(COPY_OUT, Row(3, len(raw)))


def test_impossible_messages_are_refused() -> None:
    good = protocol.pack(protocol.Batch(ENCODE, 7, [Row(3, 100, 50, 2, 1, 3, DONE)], 5, 9))
    assert protocol.unpack(good, 4) == protocol.Batch(ENCODE, 7, [Row(3, 100, 50, 2, 1, 3, DONE)], 5, 9)
    for bad in (good[:-1], b"\xff" * len(good), protocol.pack(protocol.Batch(ENCODE, 7, [Row(4, 100)]))):
        with pytest.raises(ValueError, match=r"message|chunk"):
            protocol.unpack(bad, 4)
