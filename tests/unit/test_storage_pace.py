"""How many requests at once: the limit against models of links and servers, by a clock of the test's own; the gate with threads."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torpor.storage.pace import START, WINDOW, Limit, Pace

MB = 1e6
Link = Callable[[int], float]  # requests at once → bytes a second


def link(capacity: float, each: float, *, worse: float = 0.0) -> Link:
    """A pipe that `capacity / each` requests fill. `worse`: how much too many lose, as an exponent."""

    def speed(count: int) -> float:
        return min(count * each, capacity) * math.pow(min(1.0, capacity / each / count), worse)

    return speed


class Drive:
    """A limit under full demand. `bears`: the requests at once above which the server refuses the rest."""

    def __init__(self, speed: Link, *, ceiling: int = 64, bears: float = float("inf"), noise: float = 0.0, faults: float = 0.0) -> None:
        self.speed, self.bears, self.noise, self.faults = speed, bears, noise, faults
        self.now = 0.0
        self.limit = Limit(ceiling, 0.0)
        self.seen: list[int] = []
        self._chance = random.Random(1)

    def run(self, windows: int) -> list[int]:
        """The limit after each of so many windows."""
        for _ in range(windows * 10):
            count = self.limit.value
            self.limit.reached()
            self.now += WINDOW / 10
            self.limit.moved(int(self.speed(count) * WINDOW / 10 * (1 + self._chance.uniform(-self.noise, self.noise))))
            for number in range(count):
                self.limit.ended()
                if number >= self.bears or self._chance.random() < self.faults:
                    self.limit.refused()
            self.limit.look(self.now + 1e-9)
            self.seen.append(self.limit.value)
        return self.seen[-windows * 10 :: 10]


@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("worse", [0.0, 0.3])
@pytest.mark.parametrize("knee", [8, 12, 20, 33, 50])
def test_it_ends_near_the_knee(knee: int, worse: float, noise: float) -> None:
    drive = Drive(link(knee * 5 * MB, 5 * MB, worse=worse), noise=noise)
    drive.run(60)
    rest = sorted(drive.run(100))
    assert 0.7 * knee <= rest[50] <= 1.5 * knee + 1


def test_it_rises_to_the_ceiling_where_that_pays() -> None:
    for ceiling in (1, 3, 16, 64):
        drive = Drive(link(1e12, 5 * MB), ceiling=ceiling)
        assert drive.run(30)[-1] == ceiling
        assert max(drive.seen) == ceiling


def test_it_rises_fast() -> None:
    """Downloads of an hour should not spend minutes on finding their pace."""
    assert Drive(link(1e12, 5 * MB)).run(14)[-1] == 64


def test_it_stays_where_one_request_fills_the_link() -> None:
    drive = Drive(link(5 * MB, 5 * MB))
    drive.run(200)
    assert sorted(drive.seen)[len(drive.seen) // 2] == START


@pytest.mark.parametrize("bears", [1, 2, 5, 12, 30])
def test_a_server_that_refuses_is_given_less(bears: int) -> None:
    drive = Drive(link(1e12, 5 * MB), bears=bears)
    drive.run(60)
    rest = drive.run(200)
    assert sum(rest) / len(rest) <= 1.1 * bears + 1
    assert sum(rest) / len(rest) >= 0.6 * bears


def test_a_few_refusals_at_any_time_change_nothing() -> None:
    assert min(Drive(link(1e12, 5 * MB), faults=0.03).run(100)[20:]) >= 40


def test_after_an_outage_it_comes_back() -> None:
    drive = Drive(link(200 * MB, 5 * MB))
    drive.run(40)
    drive.bears = 0
    assert drive.run(20)[-1] == 1
    drive.bears = float("inf")
    drive.run(60)
    assert sorted(drive.run(50))[25] >= 28


def test_it_finds_a_link_that_got_wider() -> None:
    drive = Drive(link(50 * MB, 5 * MB))
    assert max(drive.run(60)[30:]) <= 23
    drive.speed = link(250 * MB, 5 * MB)
    drive.run(60)
    assert sorted(drive.run(50))[25] >= 35


def test_a_window_that_held_nobody_back_says_nothing() -> None:
    limit = Limit(64, 0.0)
    for window in range(1, 100):
        limit.moved(window * 1000)
        limit.ended()
        limit.look(window * WINDOW)
        assert limit.value == START


@settings(deadline=None)
@given(
    st.integers(1, 100),
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 50), st.integers(0, 50), st.booleans(), st.floats(0, 3)), max_size=200),
)
def test_it_never_leaves_its_bounds(ceiling: int, steps: list[tuple[int, int, int, bool, float]]) -> None:
    now, limit = 0.0, Limit(ceiling, 0.0)
    for moved, ended, refused, full, seconds in steps:
        limit.moved(moved)
        for _ in range(ended):
            limit.ended()
        for _ in range(refused):
            limit.refused()
        if full:
            limit.reached()
        now += seconds
        limit.look(now)
        assert 1 <= limit.value <= ceiling


def test_the_gate_lets_no_more_through() -> None:
    pace = Pace(5, lambda: 0.0)
    lock, all_in = threading.Lock(), threading.Barrier(5)
    inside = most = 0

    def work(number: int) -> None:
        nonlocal inside, most
        with pace.turn():
            with lock:
                inside += 1
                most = max(most, inside)
            all_in.wait(60)  # five at once do get in
            with lock:
                inside -= 1

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(work, range(100)))
    assert (most, inside) == (5, 0)


def test_a_turn_that_fails_gives_its_place_back() -> None:
    pace = Pace(1, lambda: 0.0)
    for _ in range(3):
        with pytest.raises(ValueError, match="x"), pace.turn():
            raise ValueError("x")
    with pace.turn():
        pass


def test_whoever_waits_gets_in_when_the_limit_grows() -> None:
    now = 0.0
    pace = Pace(64, lambda: now)
    for _ in range(3):  # windows in which the gate was reached and more was moved
        with pace.turn(), pace.turn(), pace.turn(), pace.turn(), pace.turn(), pace.turn(), pace.turn(), pace.turn():
            pace.moved(int(MB))
            now += WINDOW
    assert pace.limit > START
    together = threading.Barrier(pace.limit)

    def work(number: int) -> None:
        with pace.turn():
            together.wait(60)

    with ThreadPoolExecutor(pace.limit) as pool:
        list(pool.map(work, range(together.parties)))
