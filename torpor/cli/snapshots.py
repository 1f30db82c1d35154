"""torpor snapshots: a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import amounts, columns
from torpor.cli.parameters import option

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.control.catalogue import Snapshot
    from torpor.control.repository import Repository

PARAMETERS = (
    option("--machine", "MACHINE", "Only snapshots of this machine."),
    option("--lineage", "ID", "Only snapshots of this workspace: the beginning of a lineage's id, as `torpor show` has it."),
)

_HEAD = ("SNAPSHOT", "CREATED", "AGE", "NAME", "MACHINE", "FILES", "RAW", "STORED", "NEW", "RATIO")
_RIGHT = ("AGE", "FILES", "RAW", "STORED", "NEW", "RATIO")


def run(session: Session, machine: str | None, lineage: str | None) -> int:
    """Oldest first. STORED is what the snapshot needs in the store, shared with others; NEW is what it added.

    A snapshot whose manifest cannot be believed is named, and the exit code is 12. One that needs what a verify found damaged is named too.
    """
    from torpor.control import catalogue
    from torpor.errors import Damaged

    repository = session.repository()
    catalogue.check_pins(repository, catalogue.ids(repository))
    good, bad = catalogue.load_all(repository)
    found = [snapshot for snapshot in good if _wanted(snapshot, machine, lineage)]
    now = repository.clock.now()
    if session.quiet:
        for snapshot in found:
            session.say(snapshot.id)
    elif found:
        for line in columns.lines(_HEAD, [_row(snapshot, now) for snapshot in found], _RIGHT):
            session.say(line)
    else:
        session.note("There are no such snapshots." if good else "There are no snapshots.")
    hurt = [snapshot_id for snapshot_id in _hurt(repository) if snapshot_id not in bad]
    for snapshot_id in hurt:
        session.warn(f"{snapshot_id} needs objects that are missing or damaged: `torpor verify {snapshot_id}` says which")
    for snapshot_id, error in bad.items():
        session.warn(f"{snapshot_id} can't be believed: {error.what}")
    answer: dict[str, object] = {
        "snapshots": [_fields(snapshot) for snapshot in found],
        "damaged": {snapshot_id: error.what for snapshot_id, error in bad.items()},
        "hurt": hurt,
    }
    if bad:
        error = Damaged(
            f"{amounts.count(len(bad), 'manifest')} can't be believed.",
            safe="Nothing was changed.",
            remedy="`torpor verify --all` says more; `torpor rm ID --damaged` removes one that is worthless.",
        )
        session.answer(answer | error.as_dict())
        raise error
    session.answer(answer)
    return 0


def _hurt(repository: Repository) -> list[str]:
    from torpor.control import distrust

    if not distrust.packs(repository):
        return []
    from torpor.control import receipts  # loads much, and is seldom needed

    return receipts.known_hurt(repository)


def _wanted(snapshot: Snapshot, machine: str | None, lineage: str | None) -> bool:
    if machine is not None and (snapshot.private is None or snapshot.private.machine != machine):
        return False
    return lineage is None or snapshot.manifest.lineage.startswith(lineage)


def _row(snapshot: Snapshot, now: float) -> list[str]:
    from torpor.clock import parse_rfc3339

    manifest, private = snapshot.manifest, snapshot.private
    return [
        manifest.snapshot, manifest.created[:16].replace("T", " "), amounts.age(now - parse_rfc3339(manifest.created)),
        private.name if private else "?", (private.machine if private else "?") or "-", f"{manifest.files:,}",
        amounts.size(manifest.raw_bytes), amounts.size(manifest.stored_bytes), amounts.size(manifest.new_bytes), f"{manifest.ratio:.2f}",
    ]  # fmt: skip


def _fields(snapshot: Snapshot) -> dict[str, object]:
    manifest, private = snapshot.manifest, snapshot.private
    return {
        "snapshot_id": manifest.snapshot, "created": manifest.created, "name": private.name if private else None,
        "machine": private.machine if private else None, "labels": private.labels if private else None, "lineage": manifest.lineage,
        "generation": manifest.generation, "parent": manifest.parent, "files": manifest.files, "raw_bytes": manifest.raw_bytes,
        "stored_bytes": manifest.stored_bytes, "new_bytes": manifest.new_bytes, "ratio": round(manifest.ratio, 4),
        "problems": manifest.problems,
    }  # fmt: skip
