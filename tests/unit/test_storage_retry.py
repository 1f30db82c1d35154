from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.errors import StorageUnavailable
from torpor.storage import rate, retry
from torpor.storage.rate import Rate
from torpor.storage.retry import Again, Timing, Tries, backoff, retry_after

NOW = 1_800_000_000.0


class Time:
    def __init__(self, chance: Callable[[], float] = lambda: 1.0) -> None:
        self.at = 0.0
        self.waits: list[float] = []
        self.timing = Timing(lambda: self.at, self.sleep, chance)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.at += seconds


@pytest.mark.parametrize(("text", "wanted"), [
    ("", 0), ("0", 0), (" 7 ", 7), ("61", 60), ("9" * 400, 60), ("-5", 0), ("1.5", 0), ("soon", 0), ("²", 0), ("٣", 0),
    (formatdate(NOW + 30, usegmt=True), 30), (formatdate(NOW - 30, usegmt=True), 0), (formatdate(NOW + 9999, usegmt=True), 60),
    ("Fri, 99 Jan 2027 00:00:00 GMT", 0), ("Fri, 01 Jan 99999 00:00:00 GMT", 0),
])  # fmt: skip
def test_retry_after(text: str, wanted: float) -> None:
    assert retry_after(text, NOW) == wanted


@given(st.text(max_size=60))
def test_retry_after_of_anything(text: str) -> None:
    assert 0 <= retry_after(text, NOW) <= retry.ASKED


def test_waits_double_up_to_a_bound() -> None:
    assert [backoff(failures, 1.0) for failures in range(1, 10)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20, 20]
    assert backoff(10_000, 1.0) == 20
    assert backoff(3, 0.25) == 0.2


def test_the_deadline_is_kept() -> None:
    time = Time()
    tries = Tries("Reading x", 100.0, time.timing)
    failure = Again("the store slept")

    def give_up() -> None:
        while True:
            tries.wait(failure)

    with pytest.raises(StorageUnavailable, match=r"Reading x failed 11 times within 100 s; the last time: the store slept\.") as caught:
        give_up()
    assert time.at <= 100
    assert caught.value.retryable


def test_a_server_cannot_ask_for_more_than_the_deadline() -> None:
    time = Time()
    tries = Tries("Reading x", 30.0, time.timing)
    tries.wait(Again("no", after=29.0))
    with pytest.raises(StorageUnavailable):
        tries.wait(Again("no", after=29.0))
    assert time.waits == [29.0]


def test_progress_begins_the_deadline_anew() -> None:
    time = Time()
    tries = Tries("Reading x", 1.0, time.timing)
    for _ in range(50):
        tries.wait(Again("broke"))
        tries.progress()
    assert time.waits == [0.2] * 50


def test_a_connection_that_had_ended_is_no_failure() -> None:
    time = Time()
    tries = Tries("Reading x", 1.0, time.timing)
    tries.wait(Again("gone", stale=True))
    assert (time.waits, tries.failures) == ([], 0)


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=50), st.integers(1000, 10**6), st.lists(st.floats(0, 5), min_size=50, max_size=50)
)
def test_bytes_go_no_faster_than_their_limit(sizes: list[int], limit: int, rests: list[float]) -> None:
    time = Time()
    bucket = Rate(limit, time.timing)
    for number, size in enumerate(sizes):
        bucket.take(size)
        assert sum(sizes[: number + 1]) <= limit * (time.at + rate.BURST) * (1 + 1e-9) + 1e-3
        time.at += rests[number]


def test_a_limit_is_used_to_the_full() -> None:
    time = Time()
    bucket = Rate(1000, time.timing)
    for _ in range(100):
        bucket.take(100)
    assert time.at == pytest.approx(10)
    time.at += 100
    bucket.take(250)  # a rest is worth a quarter of a second, and no more
    assert len(time.waits) <= 100
    before = time.at
    bucket.take(1000)
    assert time.at - before == pytest.approx(1.0)


def test_no_limit_is_no_wait() -> None:
    time = Time()
    Rate(0, time.timing).take(1 << 40)
    assert time.waits == []
