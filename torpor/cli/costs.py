"""torpor costs: what the repository costs a month, and what it would elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import amounts, columns
from torpor.cli.parameters import number

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.control.expenses import Expenses, Workspace
    from torpor.plan.costs import Bill
    from torpor.plan.prices import Price

PARAMETERS = (number("--wakes", "How often a month each workspace is woken, of which the comparison is made: once unless told."),)

_HEAD = ("WORKSPACE", "NAME", "MACHINE", "SNAPSHOTS", "STORED", "A MONTH", "A WAKE")
_RIGHT = ("SNAPSHOTS", "STORED", "A MONTH", "A WAKE", "STORAGE", "WAKES", "TOGETHER")
_COMPARED = ("PROVIDER", "STORAGE", "WAKES", "TOGETHER", "PRICES OF", "")


def run(session: Session, wakes: int | None) -> int:
    """An estimate by a table of prices with dates (torpor/plan/prices.py), in US dollars; nothing is asked of the provider.

    [?] stands where a price is uncertain. A wake reads the newest snapshot of a workspace over the internet.
    """
    from torpor.control import expenses
    from torpor.plan import costs
    from torpor.plan.prices import PRICES

    repository = session.repository()
    found = expenses.read(repository)
    provider = repository.store.capabilities.provider
    price = PRICES.get(provider)
    times = 1 if wakes is None else wakes
    bills = costs.compare(found.stored_bytes, sum(workspace.wake_bytes for workspace in found.workspaces), times)
    if not session.quiet:
        _say(session, found, price, bills)
    session.answer({
        "provider": provider, "as_of": price.as_of if price else None, "uncertain": list(price.uncertain) if price else [],
        "stored_bytes": found.stored_bytes, "other_bytes": found.other_bytes, "wakes": times,
        "per_month": costs.asleep(price, found.stored_bytes) if price else None,
        "workspaces": [_fields(workspace, found, price) for workspace in found.workspaces],
        "providers": [_compared(bill) for bill in bills],
    })  # fmt: skip
    return 0


def _say(session: Session, found: Expenses, price: Price | None, bills: list[Bill]) -> None:
    from torpor.plan import costs

    if price is None:
        session.say(f"{amounts.size(found.stored_bytes)} are stored; of this store no prices are known.")
    else:
        month = amounts.money(costs.asleep(price, found.stored_bytes))
        session.say(f"{amounts.size(found.stored_bytes)} at {price.title}: {month} a month, by prices of {price.as_of}{_doubt(price)}.")
    if found.workspaces:
        session.say("")
        for line in columns.lines(_HEAD, [_row(workspace, found, price) for workspace in found.workspaces], _RIGHT):
            session.say(line)
    if found.other_bytes:
        gone = "were written by snapshots that were removed or never finished"
        session.say(f"{amounts.size(found.other_bytes)} {gone}; `torpor prune` deletes what no other needs.")
    session.say("")
    for line in columns.lines(_COMPARED, [_bill(bill, price) for bill in bills], _RIGHT):
        session.say(line)


def _row(workspace: Workspace, found: Expenses, price: Price | None) -> list[str]:
    from torpor.plan import costs

    month = amounts.money(costs.share(price, workspace.stored_bytes, found.stored_bytes)) if price else "-"
    wake = amounts.money(costs.waking(price, workspace.wake_bytes, found.stored_bytes)) if price else "-"
    return [
        workspace.lineage[:8], workspace.name or "?", workspace.machine or "-", f"{workspace.snapshots:,}",
        amounts.size(workspace.stored_bytes), month, wake,
    ]  # fmt: skip


def _bill(bill: Bill, here: Price | None) -> list[str]:
    price = bill.price
    notes = ["here"] if price is here else []
    if price.minimum_days:
        notes.append(f"at least {price.minimum_days} days")
    if price.least_gb:
        notes.append(f"at least {price.least_gb:,.0f} GB")
    notes += [price.note] if price.note else []
    return [
        price.title, amounts.money(bill.storage), amounts.money(bill.reading), amounts.money(bill.total), price.as_of + _doubt(price),
        "; ".join(notes),
    ]  # fmt: skip


def _doubt(price: Price) -> str:
    return " [?]" if price.uncertain else ""


def _fields(workspace: Workspace, found: Expenses, price: Price | None) -> dict[str, object]:
    from torpor.plan import costs

    return {
        "lineage": workspace.lineage, "name": workspace.name, "machine": workspace.machine, "snapshots": workspace.snapshots,
        "latest": workspace.latest, "stored_bytes": workspace.stored_bytes, "wake_bytes": workspace.wake_bytes,
        "per_month": costs.share(price, workspace.stored_bytes, found.stored_bytes) if price else None,
        "per_wake": costs.waking(price, workspace.wake_bytes, found.stored_bytes) if price else None,
        "last_snapshot": costs.taking(price, workspace.new_bytes) if price else None,
    }  # fmt: skip


def _compared(bill: Bill) -> dict[str, object]:
    price = bill.price
    return {
        "provider": price.provider, "title": price.title, "storage": bill.storage, "reading": bill.reading, "total": bill.total,
        "minimum_days": price.minimum_days, "as_of": price.as_of, "uncertain": list(price.uncertain),
    }  # fmt: skip
