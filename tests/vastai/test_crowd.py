"""Many threads that want a machine at once: each waits for its turn, and the service sees no two requests too close together."""

from __future__ import annotations

import threading
import time

import pytest

from tests.emulators.vast.server import TOO_MANY_JSON
from tests.vastai.desk import Desk
from torpor.access import Access
from torpor.clock import FakeClock, SystemClock
from torpor.machines.vast_client import PATIENCE, Client
from torpor.machines.vast_errors import VastGone

MANY = 32
BODY = {"client_id": "me", "image": "ubuntu", "disk": 10, "env": {}, "price": None, "label": "mine"}


class Crowd:
    """Threads whose time is the clock's: it moves when all of them wait, to the moment at which the first goes on."""

    def __init__(self, clock: FakeClock, count: int) -> None:
        self._clock, self._count = clock, count
        self._waiting: list[float] = []
        self._moved = threading.Condition()

    def pause(self, seconds: float) -> None:
        with self._moved:
            until = self._clock.now() + seconds
            self._waiting.append(until)
            self._move()
            assert self._moved.wait_for(lambda: self._clock.now() >= until, 60)
            self._waiting.remove(until)

    def leave(self) -> None:
        with self._moved:
            self._count -= 1
            self._move()

    def _move(self) -> None:
        later = [until for until in self._waiting if until > self._clock.now()]
        if later and len(later) == self._count:
            self._clock.at = min(later)
            self._moved.notify_all()


@pytest.mark.parametrize("trouble", [False, True], ids=["alone", "somebody else uses the account"])
def test_as_many_as_replicate_allows(desk: Desk, trouble: bool) -> None:
    """The last waits for longer than it would for a service that is busy; that is told to be busy only if it is so after that."""
    for number in range(MANY):
        desk.vast.service.offers[number + 1] = desk.vast.service.offers[7_000_001] | {"id": number + 1}
    if trouble:
        desk.vast.faults.add("create", *[None] * (MANY - 1), TOO_MANY_JSON)
    desk.vast.limits = True
    crowd, began, failures = Crowd(desk.clock, MANY), desk.clock.now(), list[Exception]()

    def create(offer: int) -> None:
        try:
            Client(Access(desk.vast.environment), desk.clock, crowd.pause).create(str(offer), BODY)
        except Exception as error:  # noqa: BLE001  # told to the test
            failures.append(error)
        finally:
            crowd.leave()

    threads = [threading.Thread(target=create, args=(number + 1,)) for number in range(MANY)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert failures == []
    assert len(desk.vast.service.instances) == MANY
    assert len(desk.vast.seen("create")) == MANY + trouble, "none of ours came too soon"
    assert desk.clock.now() - began >= 4.5 * (MANY - 1) > PATIENCE


def test_a_computer_whose_clock_goes_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    client = Client(Access(desk.vast.environment | {"VAST_PACE": "1"}), SystemClock(), waits.append)
    now = time.time()
    for told in (now, now - 3600, now - 7200):
        monkeypatch.setattr(time, "time", lambda told=told: told)
        with pytest.raises(VastGone):
            client.destroy("1")
    assert len(waits) == 2
    assert all(0 < wait <= 6 for wait in waits)
