"""torpor doctor: store, keys, this computer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torpor.cli import amounts
from torpor.errors import TorporError

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.control.doctor import Check

PARAMETERS = ()

_SIGNS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def run(session: Session) -> int:
    """Writes one object of 32 MiB to the store, reads it back and deletes it. Each line says ok, warn or FAIL, with a remedy.

    The exit code is 1 if something failed.
    """
    found: list[Check] = []
    for check in _checks(session):
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


def _checks(session: Session) -> Iterator[Check]:
    from torpor.clock import SYSTEM
    from torpor.control import doctor
    from torpor.control.home import Home
    from torpor.storage.table import open_store

    store = open_store(session.settings.storage, session.settings.access)
    if session.default_storage:
        yield doctor.Check(
            "storage", "warn", "it is a folder on this computer, lost with its disk", "Give --storage, or set TORPOR_STORAGE."
        )
    yield from doctor.check_store(store, SYSTEM)
    yield from doctor.check_keys(session.repository)
    yield doctor.check_codecs()
    yield from doctor.check_space(Home(session.settings.home), store)
    yield from doctor.check_system()
