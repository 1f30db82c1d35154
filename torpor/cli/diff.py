"""torpor diff: two snapshots beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torpor.cli import amounts
from torpor.cli.parameters import argument

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.control.difference import Change

PARAMETERS = (
    argument("BEFORE", "An id, the beginning of one, or latest."),
    argument("AFTER", "Another."),
)

_SIGNS = {"added": "+", "removed": "-", "changed": "M", "metadata": "m"}


def run(session: Session, before: str, after: str) -> int:
    """Each line is a path: + added, - removed, M changed, m of the same content with another owner, time or permissions.

    Content is compared by the ids in the indexes; nothing is downloaded but them. Snapshots of different workspaces have ids that
    cannot be compared: there, files of one size and time count as equal.
    """
    from torpor.control import catalogue, listing
    from torpor.control.difference import differences

    repository = session.repository()
    one, other = (catalogue.load(repository, catalogue.resolve(repository, text)) for text in (before, after))
    same = one.manifest.lineage == other.manifest.lineage
    if not same:
        session.warn("These are snapshots of different workspaces: content is compared by size and time only.")
    totals = {kind: {"count": 0, "bytes": 0} for kind in _SIGNS}
    with listing.opened(repository, one) as left, listing.opened(repository, other) as right:
        found = _told(session, differences(left, right, same_lineage=same), totals)
        session.answer_with("changes", found, lambda: {"before": one.id, "after": other.id, "by_ids": same} | totals)
    if not session.json and not session.quiet:
        parts = [f"{total['count']:,} {kind} ({amounts.size(total['bytes'])})" for kind, total in totals.items() if total["count"]]
        session.say(", ".join(parts) or "no difference")
    return 0


def _told(session: Session, changes: Iterator[Change], totals: dict[str, dict[str, int]]) -> Iterator[dict[str, object]]:
    """Print each change, count it, pass it on as fields."""
    from torpor.jobs import show_path

    for change in changes:
        size = change.size_before if change.kind == "removed" else change.size_after
        totals[change.kind]["count"] += 1
        totals[change.kind]["bytes"] += size
        if not session.json:
            sizes = f"{amounts.size(change.size_before)} → " if change.kind == "changed" and change.size_before != size else ""
            shown = f"  {sizes}{amounts.size(size)}" if change.what == "file" else ""
            session.say(f"{_SIGNS[change.kind]} {show_path(change.path)}{'/' if change.what == 'directory' else ''}{shown}")
        yield {
            "kind": change.kind, "path": show_path(change.path), "type": change.what,
            "size_before": change.size_before, "size_after": change.size_after,
        }  # fmt: skip
