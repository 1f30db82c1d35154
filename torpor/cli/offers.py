"""torpor offers: machines that could be rented now, which one a wake would take, and why the others lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import amounts, wish
from torpor.cli.parameters import argument, number

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.control.provision import Market
    from torpor.plan.offers import Offer

PARAMETERS = (
    argument("SNAPSHOT", "Count the time and money to fetch this one: an id, the beginning of one, or latest.", required=False),
    *wish.MACHINE,
    number("--show", "How many offers to show of each kind; 10 unless told.", least=1),
)


def run(session: Session, snapshot: str | None, show: int | None, **values: object) -> int:
    """Asks every provider that there is an account for: VAST_API_KEY, or Google's credentials. Nothing is rented."""
    from torpor.control.provision import market

    found = wish.parameters(values)
    stored = disk = 0
    if snapshot:
        from torpor.control import catalogue

        repository = session.repository()
        manifest = catalogue.load(repository, catalogue.resolve(repository, snapshot)).manifest
        stored, disk = manifest.stored_bytes, int(manifest.raw_bytes * 1.2) + 10_000_000_000
    wanted = wish.wish(found, disk=disk, fetch=stored)
    provider = found.get("provider")
    tell(session, market(session.settings, wanted, (str(provider),) if provider else ()), stored, show or 10)
    return 0


def tell(session: Session, market: Market, stored: int, show: int = 10) -> None:
    """The offers as people read them, best first; with `--json`, all of them."""
    ranking = market.ranking
    for kind, why in market.silent.items():
        session.note(f"{kind} could not be asked: {why}")
    for number_, offer in enumerate(ranking.best[:show]):
        session.say(f"{'→' if number_ == 0 else ' '} {line(offer, stored)}")
    if not ranking.best:
        session.say("No offer fits.")
    for lost in ranking.lost[:show]:
        session.note(f"  not {lost.offer.kind} {lost.offer.id}: {lost.why}")
    if len(ranking.lost) > show:
        session.note(f"  and {len(ranking.lost) - show} more that do not fit")
    session.answer({
        "best": [as_dict(offer, stored) for offer in ranking.best],
        "lost": [{"kind": lost.offer.kind, "id": lost.offer.id, "why": lost.why} for lost in ranking.lost],
        "silent": market.silent,
    })  # fmt: skip


def line(offer: Offer, stored: int) -> str:
    what = f"{offer.gpus} x {offer.gpu}" if offer.gpus else "CPU"
    fetch = f", fetches {amounts.size(stored)} in {amounts.seconds(stored * 8 / offer.down)}" if stored and offer.down else ""
    cost = f" for {amounts.money(stored * offer.down_cost)}" if stored and offer.down_cost else ""
    kind = "interruptible" if offer.interruptible else "on demand"
    return (
        f"{offer.kind} {offer.id}: {what}, {offer.place or offer.country}, ${offer.price:.3f}/h {kind}, "
        f"{offer.down / 1e6:.0f} Mbit/s down, {offer.reliability:.1%} reliable{fetch}{cost}"
    )


def as_dict(offer: Offer, stored: int) -> dict[str, object]:
    import msgspec

    found: dict[str, object] = msgspec.to_builtins(offer)
    found["fetch_seconds"] = round(stored * 8 / offer.down, 1) if stored and offer.down else None
    found["fetch_cost"] = round(stored * offer.down_cost, 4)
    return found
