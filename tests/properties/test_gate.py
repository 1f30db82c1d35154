"""A signal may break off a wait at the one moment when the lock is let go and nobody waits yet."""

from __future__ import annotations

import threading

import pytest

from torpor.workspace.crew import Gate


def test_what_broke_the_wait_is_told_and_the_lock_is_free() -> None:
    gate = Gate()
    lock = gate._lock  # type: ignore[attr-defined]

    def broken() -> None:
        lock.release()
        raise KeyboardInterrupt

    gate._release_save = broken  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt), gate:
        gate.wait()
    other = threading.Thread(target=lambda: taken.append(lock.acquire(blocking=False)))
    taken: list[bool] = []
    other.start()
    other.join()
    assert taken == [True]


def test_a_lock_that_was_lost_without_reason_is_told() -> None:
    gate = Gate()
    with pytest.raises(RuntimeError), gate:
        gate.release()
