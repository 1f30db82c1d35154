"""torpor doctor: store, keys, this computer."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from torpor.cli import amounts
from torpor.cli.parameters import flag
from torpor.errors import TorporError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from torpor.cli.session import Session
    from torpor.control.finding import Check
    from torpor.storage.base import Store

PARAMETERS = (flag("--quick", "Leave out the measurement of the store's speed, which takes some seconds and costs what it moves."),)

_SIGNS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}
_EXAMPLE = 56_000_000_000  # bytes of a wake where there is no snapshot yet
_CENT = 0.01


def run(session: Session, quick: bool) -> int:
    """Tries what torpor asks of a store, on objects of its own that it deletes again. Each line says ok, warn or FAIL, with a remedy.

    The exit code is 1 if something failed.
    """
    found: list[Check] = []
    with closing(_checks(session, quick)) as checks:  # what the probe wrote goes when it is closed
        for check in checks:
            found.append(check)
            if session.quiet and check.state == "ok":
                continue
            session.say(f"{_SIGNS[check.state]}  {check.name}: {check.text}")
            if check.remedy:
                session.say(f"      {check.remedy}")
    failed = [check.name for check in found if check.state == "fail"]
    answer: dict[str, object] = {
        "ok": not failed,
        "checks": [
            {"name": check.name, "state": check.state, "text": check.text, "remedy": check.remedy, "figures": check.figures or {}}
            for check in found
        ],
    }
    if failed:
        error = TorporError(f"{amounts.count(len(failed), 'check')} failed: {', '.join(failed)}.", remedy="See to what stands below each.")
        session.answer(answer | error.as_dict())
        raise error
    session.answer(answer)
    return 0


def _checks(session: Session, quick: bool) -> Generator[Check, None, None]:
    from torpor.clock import SYSTEM
    from torpor.control import doctor
    from torpor.control.finding import Check
    from torpor.control.home import Home
    from torpor.control.probe_store import check_store
    from torpor.storage.table import open_store

    store = open_store(session.settings.storage, session.settings.access)
    if session.default_storage:
        yield Check("storage", "warn", "it is a folder on this computer, lost with its disk", "Give --storage, or set TORPOR_STORAGE.")
    figures: dict[str, float] = {}
    with closing(check_store(store, SYSTEM, quick=quick)) as checks:
        for check in checks:
            yield check
            if check.name == "throughput":
                figures = check.figures or {}
    if figures:
        yield _wake(session, figures["down_mb_per_s"] * 1e6)
        yield from _cost(store, figures)
    yield from doctor.check_keys(session.repository)
    yield doctor.check_codecs()
    yield from doctor.check_space(Home(session.settings.home), store)
    yield from doctor.check_system()


def _wake(session: Session, rate: float) -> Check:
    """How long reading a snapshot takes at that many bytes a second."""
    from torpor.control import catalogue
    from torpor.control.finding import Check

    what, size = "without a snapshot yet, for example", _EXAMPLE
    try:
        repository = session.repository()
        known = catalogue.ids(repository)
        if known:
            what, size = f"the newest snapshot, {known[-1]}", catalogue.load(repository, known[-1]).manifest.stored_bytes
    except TorporError:
        pass  # its own check says why
    seconds = size / max(rate, 1.0)
    text = f"{what}: {amounts.size(size)} at {amounts.size(rate)}/s: {amounts.seconds(seconds)}, by this computer's link"
    return Check("wake", "ok", text, "", {"bytes": float(size), "seconds": round(seconds, 3)})


def _cost(store: Store, figures: dict[str, float]) -> Iterator[Check]:
    """What the measurement cost, if that is more than a cent, without what a provider has free."""
    from torpor.control.finding import Check
    from torpor.plan import costs
    from torpor.plan.prices import PRICES

    price = PRICES.get(store.capabilities.provider)
    if price is None:
        return
    sent, received = int(figures["sent_bytes"]), int(figures["received_bytes"])
    dollars = costs.taking(price, sent) + costs.waking(price._replace(free_gb=0.0, free_times=0.0), received, 0)
    if dollars > _CENT:
        text = f"this measurement wrote {amounts.size(sent)} and read {amounts.size(received)}: at most {amounts.money(dollars)}"
        yield Check("cost", "ok", f"{text}, by prices of {price.as_of}", "", {"dollars": round(dollars, 4)})
