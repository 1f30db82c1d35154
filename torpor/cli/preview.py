"""torpor snapshot --dry-run: what would be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli import amounts
from torpor.errors import HostFailed, NotFound

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.control.places import Place
    from torpor.jobs import Scope


def preview(session: Session, place: Place, scope: Scope, rescan: bool) -> int:
    """Walk and count; no repository is made."""
    from torpor.jobs import PreviewJob, PreviewResult

    try:
        repository = session.repository().id
    except NotFound:
        repository = ""
    with session.listener() as listen:
        result = place.host.run(PreviewJob(repository=repository, scope=scope, state=place.state, rescan=rescan), listen)
    if not isinstance(result, PreviewResult):
        raise HostFailed("The host answered another job than it was given.")
    for line in result.problem_paths:
        session.warn(line)
    read, size = result.new_files + result.changed_files, result.new_bytes + result.changed_bytes
    session.say(f"would read {read:,} of {amounts.count(result.files, 'file')}: {amounts.size(size)} of {amounts.size(result.raw_bytes)}")
    session.say(
        f"  new {result.new_files:,} ({amounts.size(result.new_bytes)}), changed {result.changed_files:,} "
        f"({amounts.size(result.changed_bytes)}), gone {result.gone:,}"
        + (f", since {result.snapshot}" if result.snapshot else "; there is no snapshot of these folders yet")
    )
    session.answer({
        "dry_run": True, "compared_with": result.snapshot, "files": result.files, "directories": result.directories,
        "links": result.links, "raw_bytes": result.raw_bytes, "read_files": read, "read_bytes": size,
        "new_files": result.new_files, "new_file_bytes": result.new_bytes, "changed_files": result.changed_files,
        "changed_file_bytes": result.changed_bytes, "gone": result.gone, "problems": result.problem_paths,
        "unreadable": result.problems.get("unreadable", 0), "special": result.problems.get("special", 0), "seconds": result.seconds,
    })  # fmt: skip
    return 0
