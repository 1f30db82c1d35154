"""torpor copy: copy snapshots to another store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import amounts, given
from torpor.cli.parameters import argument, flag, number, option
from torpor.errors import UsageError

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.control.copies import Copied

PARAMETERS = (
    argument("SNAPSHOT", "An id, the beginning of one, or latest.", required=False),
    option("--to", "URL", "Where to; may be given again. Else every URL of TORPOR_COPIES.", many=True),
    flag("--all", "All snapshots."),
    flag("--dry-run", "Show what would be copied; write nothing."),
    option("--limit-rate", "RATE", "How many bytes a second to copy at most, such as 50M."),
    number("--workers", "Packs that are copied at once: 4 unless told, some 33 MB of memory each."),
    flag("--reread", "Read what the destination has already, too, and replace what is damaged."),
)


def run(
    session: Session, snapshot: str | None, to: list[str], all: bool, dry_run: bool,  # noqa: A002 - the option's name
    limit_rate: str | None, workers: int | None, reread: bool,
) -> int:  # fmt: skip
    """The copy is a repository of its own, under the same keys: `torpor --storage URL restore` needs nothing else.

    What the destination has is not sent again, so a copy that was interrupted goes on when it is run again. A restore whose store fails
    reads the copy instead.
    """
    from torpor.control import catalogue, copies
    from torpor.settings import store_place

    if bool(snapshot) == all:
        raise UsageError("Name one snapshot, or give --all.", remedy="`torpor copy latest --to URL`, or `torpor copy --all --to URL`.")
    places = [store_place(url, "--to") for url in to] or list(session.settings.copies)
    if not places:
        raise UsageError("No destination was given.", remedy="Say --to URL, or set TORPOR_COPIES.")
    options = copies.Options(
        rate=given.rate(limit_rate, "--limit-rate"), workers=workers or copies.WORKERS, reread=reread, dry_run=dry_run
    )  # fmt: skip
    repository = session.repository()
    chosen = catalogue.ids(repository) if all else [catalogue.resolve(repository, snapshot or "")]
    outcomes: list[Copied] = []
    for place in places:
        for snapshot_id in chosen:
            with session.listener() as listen:
                outcomes.append(copies.copy(repository, snapshot_id, place, options, listen))
            _tell(session, outcomes[-1])
    if not chosen:
        session.note("There are no snapshots.")
    session.answer({"copies": [_fields(outcome) for outcome in outcomes], "dry_run": dry_run})
    return 0


def _tell(session: Session, outcome: Copied) -> None:
    for note in outcome.notes:
        session.warn(note)
    what = f"{amounts.count(outcome.objects, 'object')} ({amounts.size(outcome.bytes)})"
    there = f"{outcome.kept_objects:,} ({amounts.size(outcome.kept_bytes)}) there already"
    if outcome.dry_run:
        session.say(f"would copy {outcome.snapshot} to {outcome.url}: {what}; {there}")
        return
    mended = f", {outcome.replaced:,} of them in place of damaged ones" if outcome.replaced else ""
    session.say(
        f"copied {outcome.snapshot} to {outcome.url}: {what}{mended}; {there}; {amounts.seconds(outcome.seconds)}, "
        f"{amounts.rate(outcome.bytes, outcome.seconds)}"
    )


def _fields(outcome: Copied) -> dict[str, object]:
    return {
        "snapshot_id": outcome.snapshot, "url": outcome.url, "objects": outcome.objects, "bytes": outcome.bytes,
        "kept_objects": outcome.kept_objects, "kept_bytes": outcome.kept_bytes, "replaced": outcome.replaced, "receipts": outcome.receipts,
        "new_repository": outcome.new_repository, "new_snapshot": outcome.new_snapshot, "notes": outcome.notes, "seconds": outcome.seconds,
    }  # fmt: skip
