"""What a wake would do: the machine it would take, how long it would need, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import amounts, offers, wish

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torpor.cli.session import Session

BOOT_TYPICAL = 60.0  # seconds; 30 with the image cached, minutes without (docs/machines.md)


def plan(session: Session, snapshot: str, on: str | None, wanted: Mapping[str, object]) -> int:
    """Nothing is rented, nothing is written."""
    from torpor.control import catalogue, places
    from torpor.control.provision import market
    from torpor.machines.table import open_machine

    repository = session.repository()
    manifest = catalogue.load(repository, catalogue.resolve(repository, snapshot)).manifest
    stored = manifest.stored_bytes
    session.say(
        f"{manifest.snapshot}: {amounts.count(manifest.files, 'file')}, {amounts.size(manifest.raw_bytes)}, "
        f"to fetch {amounts.size(stored)} from {repository.store.url}"
    )
    answer: dict[str, object] = {"snapshot": manifest.snapshot, "raw_bytes": manifest.raw_bytes, "stored_bytes": stored, "dry_run": True}
    if on or not wish.rents(wanted):
        if on:
            machine = open_machine(on, places.ground(session.settings))
            status = machine.status()
            session.say(f"on {status.address}, which is {status.state}" + (f": {status.detail}" if status.detail else ""))
            answer |= {"machine": status.address, "state": status.state}
        else:
            session.say("on a new local machine, which costs nothing")
        session.answer(answer)
        return 0
    disk = int(manifest.raw_bytes * 1.2) + 10_000_000_000
    provider = wanted.get("provider")
    found = market(session.settings, wish.wish(wanted, disk=disk, fetch=stored), (str(provider),) if provider else ())
    for kind, why in found.silent.items():
        session.note(f"{kind} could not be asked: {why}")
    for lost in found.ranking.lost[:10]:
        session.note(f"  not {lost.offer.kind} {lost.offer.id}: {lost.why}")
    if not found.ranking.best:
        session.say("No offer fits; nothing would be rented.")
        session.answer(answer | {"offer": None})
        return 0
    best = found.ranking.best[0]
    session.say(f"would rent {offers.line(best, stored)}")
    fetch = stored * 8 / best.down if best.down else 0.0
    seconds = BOOT_TYPICAL + fetch
    cost = stored * best.down_cost + seconds / 3600 * best.price
    session.say(
        f"awake after about {amounts.seconds(seconds)} ({amounts.seconds(BOOT_TYPICAL)} to boot is usual); "
        f"this costs ${cost:.3f}, then ${best.price:.3f} an hour, ${best.price * 720:.0f} a month"
    )
    session.answer(answer | {"offer": offers.as_dict(best, stored), "seconds": round(seconds, 1), "cost": round(cost, 4)})
    return 0
