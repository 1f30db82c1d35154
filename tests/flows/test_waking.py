"""A wake on a rented machine: its lease is kept to, and whoever stops it pays for nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flows import replicate, waking
from tasks import machine as machines
from tasks.session import Session
from tests.emulators.vast.server import Vast
from torpor.control.provision import Demand, Limits
from torpor.control.repository import open_repository
from torpor.errors import Interrupted, MachineError
from torpor.plan.offers import Wish
from torpor.settings import Settings


class Stops:
    """What is told to stop; the work looks at it."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.count = 0

    def stop(self) -> None:
        self.count += 1
        self.event.set()


def outcome(seconds: float, work: Any) -> tuple[Any, int]:
    async def run() -> tuple[Any, int]:
        stops = Stops()
        try:
            return await waking.in_time(stops, "vast:1", seconds, work(stops)), stops.count
        except MachineError as error:
            return error, stops.count

    return asyncio.run(run())


async def _ready(_: Stops) -> str:
    return "ready"


async def _stopped(stops: Stops) -> str:
    await stops.event.wait()
    raise Interrupted("The run was stopped.")


async def _handed_over(stops: Stops) -> str:
    await stops.event.wait()
    return "just in time"


async def _hangs(_: Stops) -> str:
    await asyncio.Event().wait()
    return "never"


async def _fails(_: Stops) -> str:
    raise MachineError("It is gone.")


def test_in_time() -> None:
    assert outcome(60.0, _ready) == ("ready", 0)
    error, stops = outcome(60.0, _fails)
    assert (str(error), stops) == ("It is gone.", 0)


@pytest.mark.parametrize("work", [_stopped, _hangs])
def test_a_lease_that_runs_out(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or its money: the run is stopped, so that the machine is ended. One that hangs keeps nobody from that."""
    monkeypatch.setattr(waking, "STOPPING", 0.05)
    error, stops = outcome(0.01, work)
    assert "lease ran out" in str(error)
    assert stops == 1


def test_a_hand_over_that_was_under_way() -> None:
    """The machine is its user's by then, and is not ended."""
    assert outcome(0.01, _handed_over) == ("just in time", 1)


def test_what_is_whole_and_costs_is_told_when_the_others_are_stopped() -> None:
    whole = {"machine": "vast:7", "lease": "0123456789ab"}
    there = {"machine": "ssh://box", "lease": None}
    for trouble in (Interrupted("The run was stopped."), RuntimeError("nobody foresaw it")):
        with pytest.raises((Interrupted, MachineError)) as caught:
            replicate.report("snapshot", ["a", "b", "c"], [whole, there, trouble], 1.0)
        assert "vast:7" in str(caught.value)
        assert "ssh://box" not in str(caught.value)
        assert trouble in (caught.value, caught.value.__cause__)


@pytest.mark.parametrize("boot", [0.0, 30.0], ids=["it runs by then", "it boots"])
def test_a_run_that_is_stopped_while_it_rents(boot: float, tmp_path: Path) -> None:
    """Of a flow that was cancelled nobody waits for the task: it ends what it made."""
    with Vast(tmp_path / "vast", boot=boot, ssh=True) as vast:
        settings = Settings(home=tmp_path / "home", storage="memory:", access=vast.accounts)
        repository = open_repository(settings, create=True)
        session = Session(repository, lambda _, text: session.stop() if "renting" in text else None)
        with pytest.raises(Interrupted):
            machines.rent.fn(session, Demand(settings, Wish(gpu="RTX 4090"), ("vast",)), Limits())
        assert len(vast.seen("create")) == 1
        assert vast.service.billed() == []
        assert session.made is None
