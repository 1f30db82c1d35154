"""Snapshots and restores with a GPU (a CPU in its place): the same bytes as without, whatever the GPU does."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.engine.lab import Lab, same, write
from tests.gpu.child import command
from torpor.codecs.base import Scratch
from torpor.codecs.planes import Planes
from torpor.errors import Damaged, Interrupted
from torpor.events import Event, Progress, ignore
from torpor.format.version import CHUNK_MAX
from torpor.gpu import detect, worth
from torpor.gpu import lane as lanes
from torpor.gpu.lane import Lane, Speed
from torpor.hibernate import lane as hibernate
from torpor.plan import limits
from torpor.testing.samples import noise, weights
from torpor.wake import lane as wake

STEPS = 14  # chunks of weights in the workspace


@dataclass
class Machine:
    """A machine with a GPU: its lanes as jobs made them, and the warnings they gave."""

    library: Path
    patch: pytest.MonkeyPatch
    lab: Lab
    workspace: Path
    lanes: list[Lane] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    then: Callable[[Lane], None] | None = None  # once a lane is open

    def __post_init__(self) -> None:
        start = Lane.start

        def begin(lane: Lane) -> None:
            """The job waits here until the GPU is there, else it would be over before."""
            start(lane)
            self.lanes.append(lane)
            while not lane.open and not lane._ended:
                lane._thread.join(0.01)
            if self.then is not None:
                self.then(lane)

        self.patch.setattr(Lane, "start", begin)
        self.patch.setattr(detect, "present", lambda: True)
        self.use("none")

    def use(self, fault: str, after: int = 0) -> None:
        self.patch.setattr(lanes, "COMMAND", command(self.library, fault, after))
        self.patch.setattr(lanes, "ANSWER", 1.0 if fault == "hang" else 5.0)

    def listen(self, event: Event) -> None:
        if event.kind == "note" and event.level == "warning":
            self.warnings.append(event.text)

    def take(self, **options: Any) -> int:
        """Bytes that went over the GPU."""
        before = len(self.lanes)
        self.lab.take(self.workspace, listen=self.listen, workers=1, **options)
        assert all(lane.gone for lane in self.lanes[before:])
        return sum(lane.speed.bytes for lane in self.lanes[before:])

    def restore(self, name: str) -> int:
        before = len(self.lanes)
        self.lab.restore(self.workspace.with_name(name), machine=name, listen=self.listen, workers=1)
        same(self.workspace, self.workspace.with_name(name))
        assert all(lane.gone for lane in self.lanes[before:])
        return sum(lane.speed.bytes for lane in self.lanes[before:])


@pytest.fixture
def machine(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    for module, name, value in [
        *((hibernate, "LEAST", 16 << 20), (hibernate, "TASTE", 4 << 20), (wake, "LEAST", 16 << 20), (wake, "TASTE", 2)),
        (limits, "_SLOTS_MAX", 8),
    ]:
        monkeypatch.setattr(module, name, value)
    workspace = tmp_path / "workspace"
    parts = [weights("bf16", CHUNK_MAX, seed) for seed in range(STEPS)]  # in parts, which takes less memory to make up
    write(workspace / "a" / "weights.bin", b"".join(parts)[:-77_777])
    write(workspace / "b" / "other.bin", weights("fp32", 3 * CHUNK_MAX + 3))
    write(workspace / "b" / "noise.bin", noise(2 * CHUNK_MAX))
    write(workspace / "code.py", "print(1)\n" * 1000)
    others = psutil.Process().children()  # a server of other tests
    before = len(os.listdir("/proc/self/fd"))
    yield Machine(library, monkeypatch, Lab(tmp_path / "lab"), workspace)
    gc.collect()  # a store in memory hangs in cycles
    assert not [child for child in psutil.Process().children() if child not in others]
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_there_and_back(machine: Machine) -> None:
    assert machine.take() > 4 * CHUNK_MAX
    assert machine.warnings == []
    assert machine.lab.verify().damage == {}
    assert machine.restore("by-gpu") > 4 * CHUNK_MAX
    machine.patch.setattr(detect, "present", lambda: False)
    assert machine.restore("by-cpu") == 0
    assert machine.warnings == []


def test_off_is_off(machine: Machine) -> None:
    machine.lab.repository = machine.lab.open("home", TORPOR_GPU="off")
    machine.take()
    machine.restore("copy")
    assert machine.lanes == []


def test_small_jobs_start_none(machine: Machine) -> None:
    for module in (hibernate, wake):
        machine.patch.setattr(module, "LEAST", 1 << 30)
    machine.take()
    machine.restore("copy")
    assert machine.lanes == []


def test_without_memory_for_it_there_is_none(machine: Machine) -> None:
    machine.patch.setattr("torpor.workspace.system.available_memory", lambda: 100 << 20)
    machine.take()
    machine.restore("copy")
    assert machine.lanes == []


@pytest.mark.parametrize("compare", [False, True])
@pytest.mark.parametrize("fault", ["die", "hang", "memory", "lie", "flip", "flip_in", "early"])
def test_a_snapshot_survives(machine: Machine, fault: str, compare: bool) -> None:
    machine.use(fault, 1 if compare and fault != "early" else 0)
    machine.take(compare=compare)
    assert len(machine.warnings) == 1
    assert "The GPU is not used any more" in machine.warnings[0]
    assert not psutil.pid_exists(machine.lanes[0].pid)
    assert machine.lab.verify().damage == {}
    machine.use("none")
    machine.restore("copy")
    assert len(machine.warnings) == 1


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("fault", ["die", "hang", "memory", "lie", "flip", "flip_in", "early"])
def test_a_restore_survives(machine: Machine, fault: str, after: int) -> None:
    machine.patch.setattr(detect, "present", lambda: False)
    machine.take()
    machine.patch.setattr(detect, "present", lambda: True)
    machine.use(fault, after)
    machine.restore("copy")
    assert len(machine.warnings) == 1 or (fault == "flip_in" and not machine.warnings)  # a broken frame is seen by the kernels
    assert not psutil.pid_exists(machine.lanes[0].pid)


def test_what_the_gpu_leaves_the_cpu_does(machine: Machine) -> None:
    machine.use("unable")
    assert machine.take() > 0
    assert machine.restore("copy") > 0
    assert machine.warnings == []


@pytest.mark.parametrize("moment", range(6))
def test_killed_at_any_moment(machine: Machine, moment: int) -> None:
    dice = random.Random(moment)

    def kill(lane: Lane) -> None:
        wanted, later = moment * CHUNK_MAX, dice.random() * 0.2

        def watch() -> None:
            while lane.speed.bytes < wanted and not lane._ended:
                lane._thread.join(0.002)
            lane._thread.join(later)
            if not lane._ended:
                os.kill(lane.pid, signal.SIGKILL)

        threading.Thread(target=watch, daemon=True).start()

    machine.then = kill
    machine.take()
    assert machine.lab.verify().damage == {}
    machine.restore("copy")
    assert len(machine.warnings) <= 2


def test_wrong_bytes_after_others_were_believed_end_the_job(machine: Machine) -> None:
    machine.patch.setattr(limits, "slots", lambda memory, available: 1)  # one after another
    machine.patch.setattr(hibernate, "FIRST", 0)
    machine.patch.setattr(hibernate, "EVERY", 2)
    machine.use("flip")
    with pytest.raises(Damaged, match="the GPU coded"):
        machine.take()
    assert [path for path in Path(os.fsdecode(machine.lab.state("a"))).rglob("*journal*/**/*") if path.is_file()] == []
    machine.lab.repository = machine.lab.open("home", TORPOR_GPU="off")
    machine.take()  # and nothing of the former attempt is used
    assert machine.lab.verify().damage == {}
    machine.restore("copy")


def test_all_are_decoded_at_first_and_some_later() -> None:
    raw = weights("bf16", 1 << 18)
    good = bytes(Planes().encode(raw, Scratch()) or b"")
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 4

    def believes(gpu: hibernate.Gpu, coded: bytes | bytearray) -> bool:
        return gpu.believes(memoryview(coded), len(raw), raw, Scratch())

    for wrong in (bad, good[:-1]):
        gpu = plain()
        assert not believes(gpu, wrong)
        assert all(believes(gpu, good) for _ in range(hibernate.FIRST))
        assert not believes(gpu, good)  # who was wrong once is not believed unseen
        assert not gpu.tainted
    gpu = plain()
    assert all(believes(gpu, good) for _ in range(hibernate.FIRST))
    assert all(believes(gpu, bad) for _ in range(hibernate.EVERY - hibernate.FIRST % hibernate.EVERY - 1))
    with pytest.raises(Damaged, match="the GPU coded"):
        believes(gpu, bad)
    assert gpu.tainted
    assert not any(believes(plain(compare=True), bad) for _ in range(9))


def plain(*, compare: bool = False) -> hibernate.Gpu:
    """Without a crew; bytes are their own ids."""
    return hibernate.Gpu(Progress(ignore), 1 << 30, compare, bytes, lambda ways, wanted: None)


def test_a_chunk_that_changed_in_a_slot_is_not_stored() -> None:
    gpu = plain()
    assert bytes(gpu.own(memoryview(b"abc"), b"abc")) == b"abc"
    with pytest.raises(Damaged, match="changed in memory"):
        gpu.own(memoryview(b"abd"), b"abc")


def test_when_it_is_given_up() -> None:
    speed = Speed()
    speed.bytes, speed.spent = worth.ENOUGH, 1.0
    assert worth.slower(speed, None) == ""
    assert worth.slower(speed, worth.ENOUGH / 2) == ""
    assert "its process takes" in worth.slower(speed, worth.ENOUGH * 2.0)
    speed.full_bytes, speed.full_seconds = worth.ENOUGH, 10.0
    assert "it does" in worth.slower(speed, worth.ENOUGH / 2)
    assert worth.slower(speed, worth.ENOUGH / 20) == ""
    speed.bytes -= 1
    assert worth.slower(speed, worth.ENOUGH * 2.0) == ""


def test_a_slow_gpu_is_given_up(machine: Machine) -> None:
    machine.patch.setattr(worth, "ENOUGH", 1 << 20)
    said: list[str] = []
    machine.lab.take(machine.workspace, workers=1, listen=lambda event: said.append(event.text) if event.kind == "note" else None)
    assert [text.startswith("The GPU is not used any more: its process takes") for text in said] == [True]
    machine.lab.restore(machine.workspace.with_name("copy"), workers=1)
    same(machine.workspace, machine.workspace.with_name("copy"))


@pytest.mark.parametrize("job", ["snapshot", "restore"])
def test_an_interruption_does_not_wait_for_a_gpu_that_hangs(machine: Machine, job: str) -> None:
    if job == "restore":
        machine.lab.take(machine.workspace, workers=1)
    machine.use("hang")
    machine.patch.setattr(lanes, "ANSWER", 1000.0)
    hung = threading.Event()

    def watch(lane: Lane) -> None:
        def interrupt() -> None:
            while not lane._sent:
                lane._thread.join(0.01)
            hung.set()
            os.kill(os.getpid(), signal.SIGINT)  # to the process, so that the main thread wakes up

        threading.Thread(target=interrupt, daemon=True).start()

    machine.then = watch
    run = partial(machine.restore, "copy") if job == "restore" else machine.take
    with pytest.raises(Interrupted):
        run()
    assert hung.is_set()
