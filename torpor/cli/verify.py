"""torpor verify: prove snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import amounts, given
from torpor.cli.parameters import argument, flag, option
from torpor.errors import Damaged, UsageError

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.control.receipts import Depth, Verified

PARAMETERS = (
    argument("SNAPSHOT", "An id, the beginning of one, or latest.", required=False),
    flag("--all", "All snapshots."),
    flag("--full", "Read every pack back, decode it and compare every id."),
    flag("--presence", "Read only the index; look that every pack is there with its size."),
    option("--sample", "AMOUNT", "How many packs to read back: a part, such as 10%, or a number; 5% unless told, and at least 4."),
    option("--limit-rate", "RATE", "How many bytes a second to read at most, such as 50M."),
    flag("--restart", "With --full: read again what an earlier run, which did not end, has read within the last day."),
)


def run(
    session: Session, snapshot: str | None, all: bool, full: bool, presence: bool,  # noqa: A002 - the option's name
    sample: str | None, limit_rate: str | None, restart: bool,
) -> int:  # fmt: skip
    """Without --full or --presence, a sample of the packs is read back, the newest among them.

    Interrupted, a full one goes on where it was when it is run again; its receipt says since when the oldest part is known.
    What passes gets a signed receipt. Damage is named, with every snapshot that it hurts, and the exit code is 12.
    """
    from torpor.control import catalogue, receipts, recoverable

    if bool(snapshot) == all:
        raise UsageError("Name one snapshot, or give --all.", remedy="`torpor verify latest`, or `torpor verify --all`.")
    if full and presence:
        raise UsageError("--full and --presence exclude each other.")
    if sample and (full or presence):
        raise UsageError("--sample is for a verification without --full and --presence.")
    if restart and not full:
        raise UsageError("--restart is for --full: nothing else goes on where it was.")
    rate = given.rate(limit_rate, "--limit-rate")
    part, packs = given.sample(sample, "--sample") if sample else (receipts.SAMPLE_PART, 0)
    reading = receipts.Reading(rate=rate, part=part, packs=packs, restart=restart)
    depth: Depth = "full" if full else "presence" if presence else "sample"
    repository = session.repository()
    repository.private()
    known = catalogue.ids(repository)
    if all:
        catalogue.check_pins(repository, known)
    chosen = known if all else [catalogue.resolve(repository, snapshot or "")]
    outcomes: list[Verified] = []
    for snapshot_id in chosen:
        with session.listener() as listen:
            outcome = receipts.verify(repository, snapshot_id, depth, listen, reading=reading)
        outcomes.append(outcome)
        _tell(session, outcome)
    if not chosen:
        session.note("There are no snapshots.")
    keys = recoverable.trouble(repository)
    if keys:
        session.say(f"keys DAMAGED: {keys}")
    answer: dict[str, object] = {"depth": depth, "snapshots": [_fields(outcome) for outcome in outcomes], "keys_damage": keys or None}
    damage = {name for outcome in outcomes for name in outcome.damage}
    if damage:
        hurt = sorted({one for outcome in outcomes for one in (outcome.snapshot, *outcome.hurt) if outcome.damage})
        error = Damaged(
            f"{amounts.count(len(damage), 'object')} in the store are not what was written; {amounts.count(len(hurt), 'snapshot')} hurt.",
            safe="Nothing was changed; snapshots that are not named are whole as far as this looked.",
            remedy="Take a new snapshot where the workspace still is: what is damaged is stored anew. Restore what is needed from others.",
        )
        session.answer(answer | {"hurt": hurt} | error.as_dict())
        raise error
    if keys:
        unopened = Damaged(
            f"The recovery key would not bring the keys back: {keys}.", safe="The keys of this computer open the snapshots.",
            remedy=recoverable.REMEDY,
        )  # fmt: skip
        session.answer(answer | {"hurt": []} | unopened.as_dict())
        raise unopened
    session.answer(answer | {"hurt": []})
    return 0


def _tell(session: Session, outcome: Verified) -> None:
    if outcome.damage:
        session.say(f"{outcome.snapshot} DAMAGED")
        for name, why in sorted(outcome.damage.items()):
            session.say(f"  {name}: {why.rstrip('.')}")
        for other in outcome.hurt:
            if other != outcome.snapshot:
                session.say(f"  hurts {other} too")
        return
    session.say(
        f"{outcome.snapshot} ok: {amounts.count(outcome.files, 'file')}, {amounts.count(outcome.packs, 'pack')} of "
        f"{amounts.size(outcome.pack_bytes)} there, {outcome.read_packs:,} ({amounts.size(outcome.read_bytes)}) read back; "
        f"{amounts.seconds(outcome.seconds)}"
    )
    if outcome.earlier_packs and outcome.receipt is not None:
        session.say(
            f"  {amounts.count(outcome.earlier_packs, 'pack')} ({amounts.size(outcome.earlier_bytes)}) were read by an earlier run, "
            f"the oldest at {outcome.receipt.time}"
        )


def _fields(outcome: Verified) -> dict[str, object]:
    return {
        "snapshot_id": outcome.snapshot, "ok": not outcome.damage, "packs": outcome.packs, "pack_bytes": outcome.pack_bytes,
        "read_packs": outcome.read_packs, "read_bytes": outcome.read_bytes,
        "earlier_packs": outcome.earlier_packs, "earlier_bytes": outcome.earlier_bytes, "files": outcome.files, "damage": outcome.damage,
        "hurt": outcome.hurt, "receipt": outcome.receipt_name or None, "seconds": outcome.seconds,
    }  # fmt: skip
